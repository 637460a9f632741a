//! Times as OpenStack's services write them. All are UTC.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use world::Wall;

const SECONDS: &[BorrowedFormatItem<'static>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MICROS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]");

fn format(wall: Wall, format: &[BorrowedFormatItem<'static>]) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(wall.as_micros()) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(format).expect("a date and a time have all parts that the formats above name")
}

/// `2026-11-22T12:00:00Z`: Nova, Neutron, Glance.
pub fn rfc3339(wall: Wall) -> String {
    format(wall, SECONDS)
}

/// `2026-11-22T12:00:00.123456Z`: Keystone's tokens.
pub fn rfc3339_micro(wall: Wall) -> String {
    let mut text = format(wall, MICROS);
    text.push('Z');
    text
}

/// `2026-11-22T12:00:00.123456`, without a zone: Nova's older fields, Keystone's application credentials.
pub fn iso_micro(wall: Wall) -> String {
    format(wall, MICROS)
}

/// Reads a moment in UTC: RFC 3339, or ISO 8601 without a zone, with or without a fraction of a second.
pub fn parse(text: &str) -> Option<Wall> {
    use time::format_description::well_known::Rfc3339;
    let parsed = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{}Z", text.replacen(' ', "T", 1)), &Rfc3339));
    let nanos = parsed.ok()?.unix_timestamp_nanos();
    u64::try_from(nanos / 1000).ok().map(Wall::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let wall = Wall::from_micros(1_795_348_800_000_042);
        assert_eq!(rfc3339(wall), "2026-11-22T12:00:00Z");
        assert_eq!(rfc3339_micro(wall), "2026-11-22T12:00:00.000042Z");
        assert_eq!(iso_micro(wall), "2026-11-22T12:00:00.000042");
        for text in ["2026-11-22T12:00:00.000042Z", "2026-11-22T12:00:00.000042", "2026-11-22 13:00:00.000042+01:00"] {
            assert_eq!(parse(text), Some(wall), "{text}");
        }
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("1066-10-14T09:00:00Z"), None);
    }
}
