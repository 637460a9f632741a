//! Pages of lists: `limit` and `marker`, as all families understand them.

use crate::fault::Fault;

/// Entries of a page if the client asks for no limit, or for more.
pub const PAGE_ENTRIES_MAX: usize = 1000;

/// Which page is wanted. Flatten it into a query: `#[serde(flatten)]`, or deserialize it on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Page {
    /// At most this many entries; text, because clients send anything.
    pub limit: Option<String>,
    /// The id of the last entry of the page before.
    pub marker: Option<String>,
}

/// One page and whether more follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Whether entries follow behind the last one.
    pub more: bool,
}

impl Page {
    /// The number of entries to return, at most `max`. Zero and absent mean `max`.
    pub fn limit(&self, max: usize) -> Result<usize, Fault> {
        let Some(text) = self.limit.as_deref() else { return Ok(max) };
        match text.parse::<usize>() {
            Ok(0) => Ok(max),
            Ok(limit) => Ok(limit.min(max)),
            Err(_) => Err(Fault::bad_request(format!("The limit {text:?} is not a whole number of zero or more."))),
        }
    }

    /// Cuts `all` (in its final order) down to the page. A marker that is not in it is a 400.
    pub fn cut<T>(&self, all: Vec<T>, max: usize, id_of: impl Fn(&T) -> String) -> Result<Paged<T>, Fault> {
        let limit = self.limit(max)?;
        let start = match self.marker.as_deref() {
            None | Some("") => 0,
            Some(marker) => {
                let position = all.iter().position(|entry| id_of(entry) == marker);
                position.ok_or_else(|| Fault::bad_request(format!("The marker {marker} is not in the list.")))? + 1
            }
        };
        let more = all.len().saturating_sub(start) > limit;
        Ok(Paged { entries: all.into_iter().skip(start).take(limit).collect(), more })
    }
}

/// The URL of the next page: `base` with the query of this one, its marker replaced.
pub fn next_url(base: &str, query: Option<&str>, marker: &str) -> String {
    with_marker(base, query, marker)
}

fn with_marker(base: &str, query: Option<&str>, marker: &str) -> String {
    let kept = query.unwrap_or("").split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or("");
        !name.is_empty() && name != "marker" && name != "page_reverse"
    });
    let mut url = format!("{base}?");
    for pair in kept {
        url.push_str(pair);
        url.push('&');
    }
    url.push_str("marker=");
    url.push_str(marker);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(limit: Option<&str>, marker: Option<&str>) -> Page {
        Page { limit: limit.map(str::to_owned), marker: marker.map(str::to_owned) }
    }

    fn check(limit: Option<&str>, marker: Option<&str>, expected: Option<(&[u32], bool)>) {
        let cut = page(limit, marker).cut(vec![1u32, 2, 3, 4], 3, u32::to_string).ok();
        let expected = expected.map(|(entries, more)| Paged { entries: entries.to_vec(), more });
        assert_eq!(cut, expected, "{limit:?} {marker:?}");
    }

    #[test]
    fn lists_are_cut_into_pages() {
        check(None, None, Some((&[1, 2, 3], true)));
        check(Some("0"), None, Some((&[1, 2, 3], true)));
        check(Some("2"), Some("1"), Some((&[2, 3], true)));
        check(Some("99"), Some("2"), Some((&[3, 4], false)));
        check(None, Some("4"), Some((&[], false)));
        check(None, Some("9"), None);
        check(Some("-1"), None, None);
        check(Some("x"), None, None);
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        assert_eq!(next_url("/servers", Some("limit=2&marker=a&name=x"), "b"), "/servers?limit=2&name=x&marker=b");
        assert_eq!(next_url("/servers", None, "b"), "/servers?marker=b");
    }
}
