//! What stands in a body: attributes that are taken one by one, each checked as it is taken; what is left at the end
//! was not understood and is refused by name.

use std::str::FromStr;

use api::Fault;
use identity::ProjectId;
use serde_json::{Map, Value};

/// Characters of a name or a description.
const TEXT_CHARS_MAX: usize = 255;
/// Things made by one request. What one transaction holds is the narrower limit for most.
const BULK_MAX: usize = 50;

/// The attributes of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Attrs {
    map: Map<String, Value>,
}

fn invalid(name: &str, reason: &str) -> Fault {
    Fault::bad_request(format!("Invalid input for {name}. Reason: {reason}"))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

impl Attrs {
    /// Of a body `{"<one>": {…}}`.
    pub(crate) fn one(body: Value, one: &str) -> Result<Attrs, Fault> {
        let Value::Object(mut outer) = body else { return Err(Fault::bad_request("The body is not a JSON object.")) };
        match (outer.remove(one), outer.is_empty()) {
            (Some(Value::Object(map)), true) => Ok(Attrs { map }),
            (Some(Value::Object(_)), false) => {
                Err(Fault::bad_request(format!("The body has more than the member '{one}'.")))
            }
            (Some(_), _) | (None, _) => Err(Fault::bad_request(format!("Unable to find '{one}' in request body"))),
        }
    }

    /// Of a body `{"<one>": {…}}` or `{"<many>": [{…}, …]}`; whether it was the latter.
    pub(crate) fn some(body: Value, one: &str, many: &str) -> Result<(Vec<Attrs>, bool), Fault> {
        let Some(list) = body.get(many) else { return Ok((vec![Attrs::one(body, one)?], false)) };
        let Some(list) = list.as_array().filter(|list| (1..=BULK_MAX).contains(&list.len())) else {
            return Err(Fault::bad_request(format!("'{many}' must be a list of 1 to {BULK_MAX} objects.")));
        };
        let objects = list.iter().map(|item| match item {
            Value::Object(map) => Ok(Attrs { map: map.clone() }),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Err(Fault::bad_request(format!("'{many}' holds {}, which is no object.", shown(other))))
            }
        });
        Ok((objects.collect::<Result<_, _>>()?, true))
    }

    /// A body that is the attributes themselves.
    pub(crate) fn bare(body: Value) -> Result<Attrs, Fault> {
        match body {
            Value::Object(map) => Ok(Attrs { map }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(Fault::bad_request("The body is not a JSON object."))
            }
        }
    }

    /// Nothing is left.
    pub(crate) fn done(self) -> Result<(), Fault> {
        let names: Vec<String> = self.map.keys().take(8).map(|name| name.chars().take(64).collect()).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Fault::bad_request(format!("Unrecognized attribute(s) '{}'", names.join(", "))))
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= TEXT_CHARS_MAX => Ok(Some(text)),
            Some(Value::String(_)) => {
                Err(invalid(name, &format!("The text exceeds the maximum of {TEXT_CHARS_MAX} characters.")))
            }
            Some(other) => Err(invalid(name, &format!("{} is not a valid string.", shown(&other)))),
        }
    }

    /// True or false, in any of the ways in which clients write it.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.take(name)
            .map(|value| {
                truth(&value)
                    .ok_or_else(|| invalid(name, &format!("{} cannot be converted to boolean.", shown(&value))))
            })
            .transpose()
    }

    /// A whole number, also as text; `Some(None)`: null.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<Option<i64>>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = match &value {
            Value::Null => return Ok(Some(None)),
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number
            .map(|number| Some(Some(number)))
            .ok_or_else(|| invalid(name, &format!("{} is not an integer.", shown(&value))))
    }

    /// Something that has a text form; `Some(None)`: null.
    pub(crate) fn nullable<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<Option<T>>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match &value {
            Value::Null => Ok(Some(None)),
            Value::String(text) => match text.parse() {
                Ok(parsed) => Ok(Some(Some(parsed))),
                Err(_) => Err(invalid(name, &format!("{} is not a valid {what}.", shown(&value)))),
            },
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(invalid(name, &format!("{} is not a valid {what}.", shown(&value))))
            }
        }
    }

    /// Something that has a text form; null is refused.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Fault> {
        match self.nullable(name, what)? {
            None => Ok(None),
            Some(Some(parsed)) => Ok(Some(parsed)),
            Some(None) => Err(invalid(name, &format!("'None' is not a valid {what}."))),
        }
    }

    /// Something that has to be there.
    pub(crate) fn required<T: FromStr>(&mut self, name: &str, what: &str) -> Result<T, Fault> {
        let missing =
            || Fault::bad_request(format!("Failed to parse request. Required attribute '{name}' not specified"));
        self.parsed(name, what)?.ok_or_else(missing)
    }

    /// A list; null is an empty one.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Vec::new())),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(invalid(name, &format!("'{}' is not a list.", shown(&other)))),
        }
    }

    /// A list of things that have a text form.
    pub(crate) fn texts<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<Vec<T>>, Fault> {
        let Some(list) = self.list(name)? else { return Ok(None) };
        let parsed = list.iter().map(|value| {
            let text = value.as_str().and_then(|text| text.parse().ok());
            text.ok_or_else(|| invalid(name, &format!("{} is not a valid {what}.", shown(value))))
        });
        parsed.collect::<Result<_, _>>().map(Some)
    }

    /// A list of objects; each is read by `read`, which has to take all of it.
    pub(crate) fn objects<T>(
        &mut self,
        name: &str,
        read: impl Fn(&mut Attrs) -> Result<T, Fault>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let Some(list) = self.list(name)? else { return Ok(None) };
        let mut found = Vec::with_capacity(list.len().min(BULK_MAX));
        for value in list {
            let Value::Object(map) = value else {
                return Err(invalid(name, &format!("'{}' is not a dictionary.", shown(&value))));
            };
            let mut attrs = Attrs { map };
            let item = read(&mut attrs)?;
            attrs.done().map_err(|fault| invalid(name, &fault.message))?;
            found.push(item);
        }
        Ok(Some(found))
    }

    /// Whose it is to be, under either of the attribute's two names.
    pub(crate) fn project(&mut self) -> Result<Option<ProjectId>, Fault> {
        let old: Option<ProjectId> = self.parsed("tenant_id", "project id")?;
        let new: Option<ProjectId> = self.parsed("project_id", "project id")?;
        match (&old, &new) {
            (Some(old), Some(new)) if old != new => {
                Err(Fault::bad_request("'project_id' and 'tenant_id' do not match"))
            }
            (Some(_), _) | (None, _) => Ok(new.or(old)),
        }
    }

    /// Takes attributes that this cell has no use for. They may be there as long as they ask for nothing.
    pub(crate) fn unsupported(&mut self, names: &[&str]) -> Result<(), Fault> {
        for name in names {
            let asks = match self.take(name) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(Value::String(text)) => !text.is_empty(),
                Some(Value::Array(list)) => !list.is_empty(),
                Some(Value::Object(map)) => !map.is_empty(),
                Some(Value::Bool(true) | Value::Number(_)) => true,
            };
            if asks {
                return Err(Fault::not_implemented(format!("The attribute {name} is not supported by this cloud.")));
            }
        }
        Ok(())
    }
}

/// What a value says as true or false.
pub(crate) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(_) | None => None,
        },
        Value::String(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
