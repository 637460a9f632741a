//! Every route of the running API, by its own table, meets every kind of hostile client.
//!
//! A route that is added tomorrow is in here unasked: it must be closed to who has no token, and must refuse nonsense in
//! its family's own words. Those that are open to everybody are listed, so that none becomes so by accident.

mod refusals;
mod shop;

use cell_tests::Route;
use refusals::Findings;
use serde_json::json;
use shop::{Shop, Speech};

/// What answers without a token: finding versions, and getting a token.
const OPEN: &[&str] = &[
    "GET /identity",
    "GET /identity/v3",
    "POST /identity/v3/auth/tokens",
    // Who knows the old password may set a new one.
    "POST /identity/v3/users/{user_id}/password",
    "GET /compute",
    "GET /compute/v2.1",
    "GET /image",
    "GET /image/v2",
    "GET /image/versions",
    "GET /network",
    "GET /network/v2.0",
    "GET /placement",
];

/// Bodies that no route takes, with the type that is said to go with them.
fn nonsense() -> Vec<(&'static str, Vec<u8>)> {
    let json = "application/json";
    let deep = [b"{\"a\":".repeat(5000), b"[".repeat(5000)].concat();
    let plain: &[&[u8]] = &[
        b"",
        b"{",
        b"[]",
        b"null",
        b"true",
        b"7",
        b"\"text\"",
        b"{\"a\":}",
        b"{\"a\":1}}",
        b"{\"no_such_key\":1}",
        b"{\"a\":\"\x00\"}",
        b"\xff\xfe{}",
        b"{\"\xc3\x28\":1}",
        &deep,
    ];
    let mut all: Vec<_> = plain.iter().map(|body| (json, body.to_vec())).collect();
    all.push(("text/plain", b"{}".to_vec()));
    all.push(("application/x-www-form-urlencoded", b"a=b".to_vec()));
    all
}

fn has_body(route: &Route) -> bool {
    matches!(route.method.as_str(), "POST" | "PUT" | "PATCH")
}

fn is_open(route: &Route) -> bool {
    OPEN.contains(&format!("{} {}", route.method, route.path.trim_end_matches('/')).as_str())
}

#[test]
fn without_a_good_token_every_route_is_closed() {
    let mut shop = Shop::open();
    let tokens = shop.bad_tokens();
    let (mut speech, mut findings) = (Speech::new(&shop), Findings::default());
    for route in shop.routes.iter().filter(|route| !is_open(route)) {
        let path = shop.fill(&route.path);
        let body: &[u8] = if has_body(route) { b"{}" } else { b"" };
        for (kind, token) in &tokens {
            let headers = token.as_ref().map(|token| format!("x-auth-token: {token}\r\n")).unwrap_or_default();
            let answer = speech.ask(&route.method, &path, &headers, body);
            findings.check(answer.status == 401, || format!("{} {path} with {kind} token: {answer:?}", route.method));
            findings.words(route, &answer, kind);
            let place = answer.headers.get("www-authenticate").map(String::as_str).unwrap_or_default();
            let named = place.starts_with("Keystone uri=");
            findings.check(named, || format!("{} {path}: where to get a token: {place:?}", route.method));
        }
    }
    findings.are_none();
    shop.is_well();
}

#[test]
fn nonsense_is_refused_by_every_route_that_listens() {
    let shop = Shop::open();
    let (mut speech, mut findings) = (Speech::new(&shop), Findings::default());
    let bodies = nonsense();
    for route in shop.routes.iter().filter(|route| has_body(route)) {
        let path = shop.fill(&route.path);
        let mut taken = Vec::new();
        for (content_type, body) in &bodies {
            let headers = format!("{}content-type: {content_type}\r\n", shop.admin());
            let answer = speech.ask(&route.method, &path, &headers, body);
            let sent = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            findings.words(route, &answer, &sent);
            if answer.status < 400 {
                taken.push(sent);
            }
        }
        // A route may not care for a body at all. Who does, takes none of these.
        let all_or_none = taken.is_empty() || taken.len() == bodies.len();
        findings.check(all_or_none, || format!("{} {path} takes nonsense: {taken:?}", route.method));
    }
    findings.are_none();
    shop.is_well();
}

#[test]
fn wrong_types_are_refused_and_huge_bodies_are_not_held() {
    let shop = Shop::open();
    let (mut speech, mut findings) = (Speech::new(&shop), Findings::default());
    let values = [json!(null), json!(7.5), json!("x"), json!([[]]), json!({ "a": [] }), json!({ "no_such_field": 1 })];
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20)).into_bytes();
    let headers = format!("{}content-type: application/json\r\n", shop.admin());
    for route in shop.routes.iter().filter(|route| has_body(route)) {
        let path = shop.fill(&route.path);
        let word = route.path.rsplit('/').find(|word| !word.starts_with('{')).unwrap_or_default().replace('-', "_");
        let word = word.trim_start_matches("os_");
        for key in ["auth", "metadata", "meta", "tags", "quota", "quota_set", word, word.trim_end_matches('s')] {
            for value in &values {
                let body = json!({ key: value }).to_string();
                let answer = speech.ask(&route.method, &path, &headers, body.as_bytes());
                findings.words(route, &answer, &body);
            }
        }
        let reads = speech.ask(&route.method, &path, &headers, b"{").status == 400;
        let answer = speech.ask(&route.method, &path, &headers, &huge);
        if reads {
            findings.check(answer.status == 413, || format!("{} {path} with 2 MiB: {answer:?}", route.method));
        }
        findings.words(route, &answer, "2 MiB");
    }
    findings.are_none();
    shop.is_well();
}

#[test]
fn paths_and_queries_are_never_our_fault() {
    let shop = Shop::open();
    let (mut speech, mut findings) = (Speech::new(&shop), Findings::default());
    let long = "x".repeat(4000);
    let ids =
        ["nonsense", "%00", "%ff%fe", "..%2f..%2fetc", "%zz", "%", "00000000-0000-4000-8000-000000000000", "0", &long];
    let queries = [
        "limit=-1",
        "limit=abc",
        "limit=99999999999999999999",
        "marker=no-such-thing",
        "marker=%00",
        "sort_key=nothing",
        "sort_dir=up",
        "sort=nothing:up",
        "fields=%00",
        "name=%ff",
        "%zz=1",
        "a=%00",
        "=",
        "&&&",
        "changes-since=then",
        "detailed=maybe",
        "all_tenants=maybe",
        "status=%00",
        "name=(((",
        "name=regexp:[",
        "start=yesterday",
        "id=",
    ];
    for route in &shop.routes {
        let body: &[u8] = if has_body(route) { b"{}" } else { b"" };
        if route.path.contains('{') {
            for id in ids {
                let path = shop::with_ids(&route.path, |_, _| id.to_owned());
                let answer = speech.ask(&route.method, &path, &shop.admin(), body);
                findings.words(route, &answer, &path);
            }
        }
        if route.method == "GET" {
            for query in queries {
                let path = format!("{}?{query}", shop.fill(&route.path));
                let answer = speech.ask("GET", &path, &shop.admin(), b"");
                findings.words(route, &answer, &path);
            }
        }
    }
    for list in ["compute/v2.1/servers", "compute/v2.1/servers/detail", "compute/v2.1/flavors", "image/v2/images"] {
        for query in ["limit=-1", "limit=abc", "marker=no-such-thing"] {
            let answer = speech.ask("GET", &format!("/{list}?{query}"), &shop.admin(), b"");
            findings.check(answer.status == 400, || format!("{list}?{query}: {answer:?}"));
        }
    }
    findings.are_none();
    shop.is_well();
}

#[test]
fn heads_are_bounded_and_methods_and_versions_known() {
    let shop = Shop::open();
    let (mut speech, mut findings) = (Speech::new(&shop), Findings::default());
    let long = format!("{}x-long: {}\r\n", shop.admin(), "x".repeat(70 << 10));
    let far = format!("?a={}", "x".repeat(20 << 10));
    for route in &shop.routes {
        let path = shop.fill(&route.path);
        let of = |method: &str| Route { method: method.to_owned(), ..route.clone() };
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let known = |route: &Route| route.method == method || (method == "HEAD" && route.method == "GET");
            if shop.routes.iter().any(|other| shop::overlap(&other.path, &route.path) && known(other)) {
                continue;
            }
            let answer = speech.ask(method, &path, &shop.admin(), b"");
            findings.check(matches!(answer.status, 404 | 405), || format!("{method} {path}: {answer:?}"));
            findings.refusal(&of(method), &answer, "an unknown method");
        }
        for (wanted, headers, path) in [(431, &long, path.clone()), (414, &shop.admin(), format!("{path}{far}"))] {
            let answer = speech.ask(&route.method, &path, headers, b"");
            findings.check(answer.status == wanted, || format!("{} {path:.80}: {answer:?}", route.method));
            findings.refusal(route, &answer, "a huge head");
        }
        let service = match route.dialect.as_str() {
            "Nova" if route.path != "/compute" => "compute",
            "Placement" => "placement",
            _ => continue,
        };
        for (version, wanted) in
            [("9.99", 406), ("0.1", 406), ("two", 400), ("2", 400), ("2.-1", 400), ("2.\u{e9}", 400)]
        {
            let headers = format!("{}openstack-api-version: {service} {version}\r\n", shop.admin());
            let answer = speech.ask(&route.method, &path, &headers, b"");
            findings
                .check(answer.status == wanted, || format!("{} {path} in version {version}: {answer:?}", route.method));
            findings.refusal(route, &answer, version);
        }
    }
    for path in
        ["/", "/nothing", "/compute/v3/servers", "/compute/v2.1/nothing", "/image/v3", "/network/v1", "/placement/x"]
    {
        let answer = speech.ask("GET", path, &shop.admin(), b"");
        findings.check(answer.status == 404, || format!("GET {path}: {answer:?}"));
    }
    findings.are_none();
    shop.is_well();
}

#[test]
fn what_belongs_to_others_is_behind_every_route_not_there() {
    let shop = Shop::open();
    let stranger = shop.stranger();
    let (mut speech, mut findings) = (Speech::new(&shop), Findings::default());
    let foreign = |route: &&Route| shop::names_a_thing_of_a_project(&route.path);
    for route in shop.routes.iter().filter(foreign) {
        let path = shop.fill(&route.path);
        for version in ["", "openstack-api-version: compute 2.96, placement 1.39\r\n"] {
            let headers = format!("{stranger}{version}content-type: application/json\r\n");
            let body: &[u8] = if has_body(route) { b"{}" } else { b"" };
            let answer = speech.ask(&route.method, &path, &headers, body);
            let refused = match answer.status {
                403 | 404 => true,
                // It was not looked at for whom the thing belongs to: the request makes no sense for anybody.
                400 | 415 => has_body(route),
                // What the cell cannot do, it cannot do for anybody either.
                501 => true,
                _ => false,
            };
            findings.check(refused, || format!("{} {path} by a stranger: {answer:?}", route.method));
            findings.refusal(route, &answer, "a stranger's request");
        }
    }
    findings.are_none();
    shop.is_well();
}
