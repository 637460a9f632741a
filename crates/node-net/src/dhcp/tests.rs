//! Questions and the answers to them, byte by byte where it matters.

use super::*;

fn lease() -> Lease {
    Lease {
        mac: Mac([0xfa, 0x16, 0x3e, 0, 0, 5]),
        address: "10.1.0.5/24".parse().unwrap(),
        gateway: Some("10.1.0.1".parse().unwrap()),
        dns: vec!["192.0.2.53".parse().unwrap()],
        routes: vec![("10.9.0.0/20".parse().unwrap(), "10.1.0.9".parse().unwrap())],
        mtu: 1450,
        host_name: "vm".into(),
    }
}

fn question(kind: u8, client: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0u8; 240];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
    bytes[12..16].copy_from_slice(&client);
    bytes[28..34].copy_from_slice(&lease().mac.0);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend_from_slice(&[53, 1, kind, 0]);
    bytes.extend_from_slice(options);
    bytes.push(255);
    bytes
}

#[test]
fn an_offer_in_full() {
    let answer = answer(&lease(), &question(1, [0; 4], &[])).unwrap();
    assert_eq!(answer.to, None);
    let options: &[&[u8]] = &[
        &[53, 1, 2],
        &[51, 4, 0, 1, 0x51, 0x80, 58, 4, 0, 0, 0xa8, 0xc0, 59, 4, 0, 1, 0x27, 0x50],
        &[54, 4, 169, 254, 169, 254, 1, 4, 255, 255, 255, 0, 28, 4, 10, 1, 0, 255, 26, 2, 5, 0xaa],
        &[3, 4, 10, 1, 0, 1, 6, 4, 192, 0, 2, 53, 12, 2, b'v', b'm'],
        &[121, 22, 32, 169, 254, 169, 254, 10, 1, 0, 1, 20, 10, 9, 0, 10, 1, 0, 9, 0, 10, 1, 0, 1],
        &[255],
    ];
    let options = options.concat();
    assert_eq!(answer.bytes[..4], [2, 1, 6, 0]);
    assert_eq!(answer.bytes[4..8], [1, 2, 3, 4]);
    assert_eq!(answer.bytes[16..20], [10, 1, 0, 5]);
    assert_eq!(answer.bytes[240..240 + options.len()], options);
    assert!(answer.bytes.len() >= 300);
}

#[test]
fn which_question_gets_which_answer() {
    let (own, other) = ([50, 4, 10, 1, 0, 5], [50, 4, 10, 1, 0, 6]);
    let us = [54, 4, 169, 254, 169, 254];
    let them = [54, 4, 10, 1, 0, 99];
    let cases: &[(&str, Vec<u8>, Option<Kind>)] = &[
        ("selecting", question(3, [0; 4], &[own, us].concat()), Some(Kind::Ack)),
        ("after a restart of the guest", question(3, [0; 4], &own), Some(Kind::Ack)),
        ("renewing", question(3, [10, 1, 0, 5], &[]), Some(Kind::Ack)),
        ("another address", question(3, [0; 4], &other), Some(Kind::Nak)),
        ("renewing another address", question(3, [10, 1, 0, 6], &[]), Some(Kind::Nak)),
        ("another server was chosen", question(3, [0; 4], &[own, them].concat()), None),
        ("no address wanted at all", question(3, [0; 4], &[]), None),
        ("only settings", question(8, [10, 1, 0, 5], &[]), Some(Kind::Ack)),
        ("release", question(7, [10, 1, 0, 5], &us), None),
        ("decline", question(4, [0; 4], &own), None),
        ("an answer", question(5, [0; 4], &own), None),
        ("an option that is cut off", question(1, [0; 4], &[12, 200]), None),
    ];
    for (what, bytes, expected) in cases {
        let kind = answer(&lease(), bytes).map(|answer| answer.bytes[242]);
        let numbers = [(Kind::Offer, 2), (Kind::Ack, 5), (Kind::Nak, 6)];
        let expected = expected.map(|kind| numbers.iter().find(|(known, _)| *known == kind).unwrap().1);
        assert_eq!(kind, expected, "{what}");
    }
    let inform = answer(&lease(), &question(8, [10, 1, 0, 7], &[])).unwrap();
    assert_eq!((inform.to, &inform.bytes[16..20]), (Some([10, 1, 0, 7].into()), &[0; 4][..]));
}

#[test]
fn without_a_gateway_metadata_is_on_the_link() {
    let lease = Lease { gateway: None, routes: vec![], ..lease() };
    assert_eq!(routes(&lease), [32, 169, 254, 169, 254, 0, 0, 0, 0]);
}

#[test]
fn damaged_questions_are_ignored() {
    let whole = question(1, [0; 4], &[50, 4, 10, 1, 0, 5]);
    for length in 0..243 {
        assert_eq!(answer(&lease(), &whole[..length]), None, "{length}");
    }
    let foreign = Lease { mac: Mac([2, 0, 0, 0, 0, 1]), ..lease() };
    assert_eq!(answer(&foreign, &whole), None);
}

#[test]
fn long_options_are_continued() {
    let message = Message::parse(&question(1, [0; 4], &[])).unwrap();
    let bytes = message.reply(Kind::Ack, Ipv4Addr::UNSPECIFIED).option(121, &[7; 300]).finish();
    assert_eq!((bytes[243], bytes[244], bytes[500], bytes[501]), (121, 255, 121, 45));
}
