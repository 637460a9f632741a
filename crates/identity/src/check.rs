//! What names and other texts may be.

use crate::error::Error;
use crate::password::PASSWORD_BYTES_MAX;

/// Characters of a domain's, project's or group's name.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Characters of a user's, role's, service's or credential's name.
pub(crate) const LONG_NAME_CHARS_MAX: usize = 255;
/// Bytes of any name: it is part of a key.
const NAME_BYTES_MAX: usize = 384;
/// Bytes of a description or another text for people.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Tags of one thing.
pub(crate) const TAGS_MAX: usize = 80;

/// A name of at most `chars_max` characters.
pub(crate) fn name(name: &str, chars_max: usize) -> Result<(), Error> {
    let problem = if name.trim().is_empty() {
        "is too short"
    } else if name.chars().count() > chars_max || name.len() > NAME_BYTES_MAX {
        "is too long"
    } else if name.contains('\0') {
        "contains a null byte"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(LONG_NAME_CHARS_MAX).collect();
    Err(Error::Invalid(format!("Invalid input for field 'name': {shown:?} {problem}")))
}

/// A text for people.
pub(crate) fn text(field: &str, text: &str) -> Result<(), Error> {
    if text.len() <= TEXT_BYTES_MAX {
        Ok(())
    } else {
        Err(Error::Invalid(format!("Invalid input for field '{field}': it is too long")))
    }
}

/// A password.
pub(crate) fn password(password: &str) -> Result<(), Error> {
    if password.is_empty() {
        return Err(Error::Invalid("Invalid input for field 'password': it is empty".to_owned()));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Error::Invalid("Invalid input for field 'password': it is too long".to_owned()));
    }
    Ok(())
}

/// Tags.
pub(crate) fn tags(tags: &[String]) -> Result<(), Error> {
    if tags.len() > TAGS_MAX {
        return Err(Error::Invalid(format!("a thing has at most {TAGS_MAX} tags")));
    }
    let bad = |tag: &String| tag.is_empty() || tag.len() > LONG_NAME_CHARS_MAX || tag.contains([',', '/']);
    match tags.iter().find(|tag| bad(tag)) {
        Some(tag) => Err(Error::Invalid(format!("{tag:?} is no tag: 1 to 255 characters without ',' and '/'"))),
        None => Ok(()),
    }
}
