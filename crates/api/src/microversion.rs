//! Microversions: how Nova's and Placement's clients say which edition of the API they speak.

use std::fmt;

use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fault::{Dialect, Fault, unacceptable_version};

const STANDARD: HeaderName = HeaderName::from_static("openstack-api-version");
const NOVA: HeaderName = HeaderName::from_static("x-openstack-nova-api-version");

/// A version `major.minor` of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Microversion(pub u16, pub u16);

impl Microversion {
    /// Whether what came in `major.minor` is there.
    pub const fn at_least(self, major: u16, minor: u16) -> bool {
        self.0 > major || (self.0 == major && self.1 >= minor)
    }

    fn parse(text: &str) -> Option<Microversion> {
        let (major, minor) = text.split_once('.')?;
        let number = |part: &str| {
            let plain = part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
            part.parse::<u16>().ok().filter(|_| plain)
        };
        Some(Microversion(number(major)?, number(minor)?))
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The versions that a family speaks.
#[derive(Clone, Copy, Debug)]
pub struct Negotiation {
    /// The service type in the header: `compute`, `placement`.
    pub service: &'static str,
    /// The oldest version, and the one for clients that ask for none.
    pub min: Microversion,
    /// The newest version.
    pub max: Microversion,
}

impl Negotiation {
    /// The version for a request with these headers.
    pub fn negotiate(&self, dialect: Dialect, headers: &HeaderMap) -> Result<Microversion, Fault> {
        let Some(wanted) = self.wanted(headers) else { return Ok(self.min) };
        if wanted.eq_ignore_ascii_case("latest") {
            return Ok(self.max);
        }
        let Some(version) = Microversion::parse(wanted) else {
            return Err(Fault::bad_request(match dialect {
                Dialect::Placement => format!("invalid version string: {wanted}"),
                Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance => {
                    format!("API Version String {wanted} is of invalid format. Must be of format MajorNum.MinorNum.")
                }
            }));
        };
        if (self.min..=self.max).contains(&version) {
            Ok(version)
        } else {
            Err(unacceptable_version(dialect, wanted, self.min, self.max))
        }
    }

    fn wanted<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        for value in headers.get_all(STANDARD) {
            // What is no text names no version: it is refused as such.
            let Ok(value) = value.to_str() else { return Some("") };
            for choice in value.split(',') {
                let choice = choice.trim();
                // The last word is the version; a header may name other services, which do not concern us.
                if let Some((service, version)) = choice.split_once(char::is_whitespace)
                    && service.eq_ignore_ascii_case(self.service)
                {
                    return Some(version.trim());
                }
            }
        }
        if self.service != "compute" {
            return None;
        }
        headers.get(NOVA).map(|value| value.to_str().unwrap_or("").trim())
    }

    /// Tells the client which version it got, and caches what the answer depends on.
    pub fn announce(&self, version: Microversion, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&format!("{} {version}", self.service)) {
            headers.insert(STANDARD, value);
        }
        if self.service != "compute" {
            headers.append(VARY, HeaderValue::from_static("openstack-api-version"));
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&version.to_string()) {
            headers.insert(NOVA, value);
        }
        headers.append(VARY, HeaderValue::from_static("OpenStack-API-Version, X-OpenStack-Nova-API-Version"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: Dialect, headers: &[(&'static str, &str)], expected: Result<(u16, u16), u16>) {
        let (service, min, max) = match dialect {
            Dialect::Placement => ("placement", Microversion(1, 0), Microversion(1, 39)),
            Dialect::Keystone | Dialect::Nova | Dialect::Neutron | Dialect::Glance => {
                ("compute", Microversion(2, 1), Microversion(2, 104))
            }
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let got = Negotiation { service, min, max }.negotiate(dialect, &map);
        let got = got.map(|version| (version.0, version.1)).map_err(|fault| fault.status.as_u16());
        assert_eq!(got, expected, "{headers:?}");
    }

    #[test]
    fn versions_are_negotiated() {
        check(Dialect::Nova, &[], Ok((2, 1)));
        check(Dialect::Nova, &[("openstack-api-version", "compute 2.79")], Ok((2, 79)));
        check(Dialect::Nova, &[("x-openstack-nova-api-version", "2.3")], Ok((2, 3)));
        check(Dialect::Nova, &[("openstack-api-version", "placement 1.5")], Ok((2, 1)));
        check(Dialect::Nova, &[("openstack-api-version", "placement 1.5, compute 2.9")], Ok((2, 9)));
        check(Dialect::Nova, &[("openstack-api-version", "compute latest")], Ok((2, 104)));
        check(Dialect::Nova, &[("openstack-api-version", "compute 2.105")], Err(406));
        check(Dialect::Nova, &[("openstack-api-version", "compute 1.1")], Err(406));
        check(Dialect::Nova, &[("openstack-api-version", "compute 2.01")], Err(400));
        check(Dialect::Nova, &[("openstack-api-version", "compute two")], Err(400));
        check(Dialect::Placement, &[("openstack-api-version", "placement 1.39")], Ok((1, 39)));
        check(Dialect::Placement, &[("x-openstack-nova-api-version", "2.3")], Ok((1, 0)));
    }
}
