//! Bodies, read member by member: each is taken with its type, and what is left over at the end is refused, as Nova's
//! schemas do.

use api::Fault;
use serde_json::{Map, Value};

/// An object of a body, and where in the body it is.
pub(crate) struct Object {
    path: String,
    left: Map<String, Value>,
}

fn wrong(path: &str, value: &Value, why: &str) -> Fault {
    let shown: String = value.to_string().chars().take(128).collect();
    Fault::bad_request(format!("Invalid input for field/attribute {path}. Value: {shown}. {why}"))
}

/// The object that is the only member `name` of a body.
pub(crate) fn only(body: Value, name: &str) -> Result<Object, Fault> {
    let mut body = Object::new(body, "body")?;
    let inner = body.required_object(name)?;
    body.end()?;
    Ok(inner)
}

impl Object {
    pub(crate) fn new(value: Value, path: &str) -> Result<Object, Fault> {
        match value {
            Value::Object(left) => Ok(Object { path: path.to_owned(), left }),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Err(wrong(path, &other, "It is not of type 'object'"))
            }
        }
    }

    fn at(&self, name: &str) -> String {
        if self.path == "body" { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn missing(&self, name: &str) -> Fault {
        Fault::bad_request(format!("Invalid input for field/attribute {}. '{name}' is a required property", self.path))
    }

    /// The member as it is.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// The member, if it is there and not null.
    pub(crate) fn given(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Refuses what nobody took.
    pub(crate) fn end(self) -> Result<(), Fault> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(Fault::bad_request(format!(
                "Invalid input for field/attribute {}. Additional properties are not allowed ('{name}' was unexpected)",
                self.path
            ))),
        }
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Object>, Fault> {
        let path = self.at(name);
        self.take(name).map(|value| Object::new(value, &path)).transpose()
    }

    pub(crate) fn required_object(&mut self, name: &str) -> Result<Object, Fault> {
        self.object(name)?.ok_or_else(|| self.missing(name))
    }

    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong(&self.at(name), &other, "It is not of type 'array'")),
        }
    }

    /// The objects in a list.
    pub(crate) fn objects(&mut self, name: &str) -> Result<Option<Vec<Object>>, Fault> {
        let path = self.at(name);
        let list = self.list(name)?;
        list.map(|list| list.into_iter().map(|value| Object::new(value, &path)).collect()).transpose()
    }

    /// Text of `min` to `max` characters.
    pub(crate) fn text(&mut self, name: &str, min: usize, max: usize) -> Result<Option<String>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.at(name);
        text(value, &path, min, max).map(Some)
    }

    /// Text or null, which counts as absent.
    pub(crate) fn optional_text(&mut self, name: &str, min: usize, max: usize) -> Result<Option<String>, Fault> {
        if self.left.get(name).is_some_and(Value::is_null) {
            self.left.remove(name);
            return Ok(None);
        }
        self.text(name, min, max)
    }

    pub(crate) fn required_text(&mut self, name: &str, min: usize, max: usize) -> Result<String, Fault> {
        self.text(name, min, max)?.ok_or_else(|| self.missing(name))
    }

    /// A name for people: 1 to 255 characters, no spaces around it, nothing that cannot be printed.
    pub(crate) fn name(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let Some(text) = self.text(name, 1, 255)? else { return Ok(None) };
        if text.trim() == text && !text.chars().any(char::is_control) {
            return Ok(Some(text));
        }
        Err(wrong(&self.at(name), &Value::from(text), "It has spaces at an end, or characters that cannot be printed"))
    }

    pub(crate) fn required_name(&mut self, name: &str) -> Result<String, Fault> {
        self.name(name)?.ok_or_else(|| self.missing(name))
    }

    /// A whole number, or text that is one.
    pub(crate) fn number(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match number {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            Some(_) => Err(wrong(&self.at(name), &value, &format!("It is not between {min} and {max}"))),
            None => Err(wrong(&self.at(name), &value, "It is not of type 'integer'")),
        }
    }

    pub(crate) fn required_number(&mut self, name: &str, min: i64, max: i64) -> Result<i64, Fault> {
        self.number(name, min, max)?.ok_or_else(|| self.missing(name))
    }

    /// True or false, or one of the words for them.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let path = self.at(name);
        match &value {
            Value::Bool(given) => Some(*given),
            Value::Number(number) => match number.as_i64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                Some(_) | None => None,
            },
            Value::String(text) => boolean_word(text),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
        .map(Some)
        .ok_or_else(|| wrong(&path, &value, "It is not one of [True, False]"))
    }

    /// All that is left, as texts of at most `max` characters under names of at most as many.
    pub(crate) fn texts(self, max: usize, numbers: bool) -> Result<Vec<(String, String)>, Fault> {
        let Object { path, left } = self;
        let one = |(name, value): (String, Value)| {
            if name.is_empty() || name.chars().count() > max {
                return Err(wrong(&path, &Value::from(name), &format!("Names have 1 to {max} characters")));
            }
            let path = format!("{path}.{name}");
            let value = if numbers && value.is_number() { Value::from(value.to_string()) } else { value };
            Ok((name, text(value, &path, 0, max)?))
        };
        left.into_iter().map(one).collect()
    }

    /// The only member, if there is exactly one.
    pub(crate) fn single(self) -> Option<(String, Value)> {
        if self.left.len() == 1 { self.left.into_iter().next() } else { None }
    }

    /// The names of all that is left.
    pub(crate) fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }
}

/// Text of `min` to `max` characters.
pub(crate) fn text(value: Value, path: &str, min: usize, max: usize) -> Result<String, Fault> {
    let Value::String(text) = value else { return Err(wrong(path, &value, "It is not of type 'string'")) };
    let length = text.chars().count();
    if length < min {
        return Err(wrong(path, &Value::from(text), "It is too short"));
    }
    if length > max {
        return Err(wrong(path, &Value::from(text), "It is too long"));
    }
    Ok(text)
}

/// The words that stand for true and false.
pub(crate) fn boolean_word(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" | "t" | "y" => Some(true),
        "false" | "0" | "off" | "no" | "f" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_took_and_what_has_the_wrong_type_is_refused() {
        let mut object = only(json!({ "flavor": { "name": "x", "ram": "64", "vcpus": true } }), "flavor").unwrap();
        assert_eq!(object.required_name("name").unwrap(), "x");
        assert_eq!(object.required_number("ram", 1, 100).unwrap(), 64);
        assert!(object.required_number("vcpus", 1, 2).is_err());
        assert!(object.required_number("disk", 1, 2).is_err());
        object.end().unwrap();
        let object = only(json!({ "flavor": { "colour": 1 } }), "flavor").unwrap();
        assert!(object.end().unwrap_err().message.contains("'colour' was unexpected"));
        assert!(only(json!({ "flavor": [] }), "flavor").is_err());
        assert!(only(json!({ "flavor": {}, "more": 1 }), "flavor").is_err());
        assert!(only(json!({ "flavor": { "name": " x" } }), "flavor").unwrap().name("name").is_err());
    }
}
