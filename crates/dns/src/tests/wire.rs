//! What travels: flags, room, and what is no question.

use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;

use super::*;
use crate::wire::{Over, respond};

fn answer(zone: &Zone, asked: &Message, over: Over) -> (Message, usize) {
    let bytes = respond(zone, TTL, &asked.to_vec().unwrap(), over).unwrap();
    (Message::from_vec(&bytes).unwrap(), bytes.len())
}

fn crowd(count: usize, name: impl Fn(usize) -> String) -> Zone {
    zone((0..count).map(|i| control(&name(i), &format!("10.0.{}.{}:7000", i / 250, i % 250 + 1))))
}

#[test]
fn an_answer_has_authority_and_offers_no_recursion() {
    let mut asked = question(&format!("main.control.{CELL}"), RecordType::A);
    asked.metadata.recursion_desired = true;
    let (told, _) = answer(&zone([control("main", "10.0.0.1:1")]), &asked, Over::Udp);
    let flags = told.metadata;
    assert_eq!((flags.id, flags.authoritative, flags.recursion_desired), (asked.metadata.id, true, true));
    assert_eq!((flags.recursion_available, flags.truncation, told.edns), (false, false, None));
    assert_eq!(told.queries, asked.queries);
    let (outside, _) = answer(&zone([]), &question("example.org", RecordType::A), Over::Udp);
    assert_eq!((outside.metadata.response_code, outside.metadata.authoritative), (ResponseCode::Refused, false));
}

#[test]
fn what_has_no_room_in_a_datagram_is_asked_for_again_over_tcp() {
    let zone = crowd(60, |i| format!("c{i}"));
    let mut asked = question(&format!("_store._tcp.{CELL}"), RecordType::SRV);
    let (plain, length) = answer(&zone, &asked, Over::Udp);
    assert!(plain.metadata.truncation && plain.answers.is_empty() && length <= 512, "{length}");
    let (whole, _) = answer(&zone, &asked, Over::Tcp);
    assert_eq!((whole.metadata.truncation, whole.answers.len(), whole.additionals.len()), (false, 60, 60));

    // Nobody gets more than an unfragmented datagram, whatever it offers to take; additionals go before answers do.
    let mut edns = Edns::new();
    edns.set_max_payload(u16::MAX);
    asked.edns = Some(edns);
    let (told, length) = answer(&crowd(20, |i| format!("c{i}")), &asked, Over::Udp);
    assert_eq!((told.metadata.truncation, told.answers.len(), told.additionals.len()), (false, 20, 0));
    assert!((512..=1232).contains(&length), "{length}");
    assert_eq!(told.edns.unwrap().max_payload(), 1232);
}

#[test]
fn the_longest_answer_fits_into_a_stream() {
    let zone = crowd(300, |i| format!("{i:063}"));
    let (told, length) = answer(&zone, &question(&format!("_store._tcp.{CELL}"), RecordType::SRV), Over::Tcp);
    assert_eq!((told.metadata.truncation, told.answers.len()), (false, 200));
    assert!(length > 16_384, "{length}");
}

#[test]
fn what_is_no_question_is_told_so_or_left_unanswered() {
    let zone = zone([control("main", "10.0.0.1:1")]);
    let asked = question(&format!("main.control.{CELL}"), RecordType::A);
    let bytes = asked.to_vec().unwrap();
    let code = |request: &[u8]| {
        let answer = respond(&zone, TTL, request, Over::Udp)?;
        Some(Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    assert_eq!(code(&bytes), Some(ResponseCode::NoError));
    assert_eq!(code(&bytes[..11]), None);
    assert_eq!(code(&bytes[..bytes.len() - 1]), Some(ResponseCode::FormErr));
    let mut two = asked.clone();
    two.add_queries(asked.queries.clone());
    assert_eq!(code(&two.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut an_answer = bytes.clone();
    an_answer[2] |= 0x80;
    assert_eq!(code(&an_answer), None);
    let mut update = bytes.clone();
    update[2] |= u8::from(OpCode::Update) << 3;
    assert_eq!(code(&update), Some(ResponseCode::NotImp));
    let mut newer = asked;
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.edns = Some(edns);
    // Two codes share this number; in the answer to a question of a newer EDNS it is BADVERS.
    assert_eq!(code(&newer.to_vec().unwrap()).map(u16::from), Some(u16::from(ResponseCode::BADVERS)));
}

#[test]
fn every_damage_to_a_question_is_survived() {
    let zone = zone([control("main", "10.0.0.1:1")]);
    let mut asked = question(&format!("main.control.{CELL}"), RecordType::A);
    asked.edns = Some(Edns::new());
    let bytes = asked.to_vec().unwrap();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x3f, 0x40, 0x7f, 0xc0, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            for cut in [damaged.len(), at + 1] {
                if let Some(answer) = respond(&zone, TTL, &damaged[..cut], Over::Udp) {
                    assert!(answer.len() <= 1232 && answer[..2] == damaged[..2] && answer[2] & 0x80 != 0);
                }
            }
        }
    }
    // A name that points at itself.
    let mut ring = bytes[..12].to_vec();
    ring.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
    assert!(respond(&zone, TTL, &ring, Over::Udp).is_some());
}
