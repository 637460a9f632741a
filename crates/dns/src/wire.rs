//! From the bytes of a message to those of its answer.

use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};

use crate::zone::{Reply, Zone};

/// What a datagram may carry if its sender does not say that it takes more (RFC 1035, section 4.2.1).
const PLAIN_MAX: usize = 512;
/// What a datagram carries at most, so that no path cuts it into fragments.
const DATAGRAM_MAX: u16 = 1232;
/// A message over TCP has two bytes for its length.
const STREAM_MAX: usize = 65_535;
const HEADER_BYTES: usize = 12;

/// How a message came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// One datagram each.
    Udp,
    /// A stream of them.
    Tcp,
}

/// The answer to `request`. None is due to what is no message, or is an answer itself: two servers that answered
/// each other's errors would never stop.
pub(crate) fn respond(zone: &Zone, ttl: Duration, request: &[u8], over: Over) -> Option<Vec<u8>> {
    let header = request.get(..HEADER_BYTES)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([header[0], header[1]]);
    let op_code = OpCode::from_u8((header[2] >> 3) & 0x0f);
    if op_code != OpCode::Query {
        return Message::error_msg(id, op_code, ResponseCode::NotImp).to_vec().ok();
    }
    let asked = Message::from_vec(request).ok().filter(|message| message.queries.len() == 1);
    let Some(asked) = asked else {
        return Message::error_msg(id, op_code, ResponseCode::FormErr).to_vec().ok();
    };
    let reply = match (&asked.edns, asked.queries.first()) {
        (Some(edns), _) if edns.version() > 0 => Reply::of(ResponseCode::BADVERS),
        (_, Some(question)) => zone.answer(question, ttl),
        (_, None) => Reply::of(ResponseCode::FormErr),
    };
    let room = match (over, &asked.edns) {
        (Over::Tcp, _) => STREAM_MAX,
        (Over::Udp, Some(edns)) => usize::from(edns.max_payload().min(DATAGRAM_MAX)).max(PLAIN_MAX),
        (Over::Udp, None) => PLAIN_MAX,
    };
    fit(message(&asked, reply), room)
}

fn message(asked: &Message, reply: Reply) -> Message {
    let mut message = Message::response(asked.metadata.id, OpCode::Query);
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.metadata.authoritative = matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain);
    message.metadata.response_code = reply.code;
    message.queries = asked.queries.clone();
    message.answers = reply.answers;
    message.authorities = reply.authorities;
    message.additionals = reply.additionals;
    message.edns = asked.edns.as_ref().map(|_| {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_MAX).set_rcode_high(reply.code.high());
        edns
    });
    message
}

/// What would only have been asked for next is left out in silence; what was asked for is not (RFC 2181, section 9).
fn fit(mut message: Message, room: usize) -> Option<Vec<u8>> {
    let encode = |message: &Message| message.to_vec().ok().filter(|bytes| bytes.len() <= room);
    if let Some(bytes) = encode(&message) {
        return Some(bytes);
    }
    message.additionals.clear();
    if let Some(bytes) = encode(&message) {
        return Some(bytes);
    }
    message.answers.clear();
    message.authorities.clear();
    message.metadata.truncation = true;
    encode(&message)
}
