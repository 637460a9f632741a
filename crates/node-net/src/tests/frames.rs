//! Frames as a guest may build them, honest or not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::names::Mac;

pub(super) fn mac(text: &str) -> [u8; 6] {
    Mac::parse(text).unwrap().0
}

pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &kind.to_be_bytes()[..], payload].concat()
}

pub(super) fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}

/// An IPv4 packet with UDP in it. Without UDP checksum, which IPv4 allows.
pub(super) fn udp4(from: (IpAddr, u16), to: (IpAddr, u16), text: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(target)) = (from.0, to.0) else { panic!("IPv4 only") };
    let length = 8 + text.len() as u16;
    let mut head = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    head[2..4].copy_from_slice(&(20 + length).to_be_bytes());
    head[12..16].copy_from_slice(&source.octets());
    head[16..20].copy_from_slice(&target.octets());
    let check = sum(&[&head]);
    head[10..12].copy_from_slice(&check);
    [&head[..], &from.1.to_be_bytes(), &to.1.to_be_bytes(), &length.to_be_bytes(), &[0, 0], text].concat()
}

/// An ICMPv6 message in an IPv6 packet, from the link itself.
pub(super) fn icmp6(source: Ipv6Addr, target: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = message.len() as u16;
    let mut message = message.to_vec();
    let pseudo = [&source.octets()[..], &target.octets()[..], &[0, 0], &length.to_be_bytes()[..], &[0, 0, 0, 58]];
    let check = sum(&[&pseudo.concat(), &message]);
    message[2..4].copy_from_slice(&check);
    let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[58, 255], &source.octets(), &target.octets()].concat();
    [head, message].concat()
}

pub(super) fn arp(operation: u8, mac: [u8; 6], claimed: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &mac, &claimed.octets(), &[0; 6], &target.octets()].concat()
}

/// A DHCP message of a client: kind and further options.
pub(super) fn dhcp(kind: u8, mac: [u8; 6], client: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0u8; 240];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&[7, 7, 7, kind]);
    bytes[12..16].copy_from_slice(&client.octets());
    bytes[28..34].copy_from_slice(&mac);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend_from_slice(&[53, 1, kind]);
    for (code, value) in options {
        bytes.extend_from_slice(&[*code, value.len() as u8]);
        bytes.extend_from_slice(value);
    }
    bytes.push(255);
    bytes
}

/// An option of a DHCP message.
pub(super) fn dhcp_option(message: &[u8], code: u8) -> Option<Vec<u8>> {
    let mut rest = &message[240..];
    while let [found, length, after @ ..] = rest {
        if *found == 255 {
            return None;
        }
        if *found == code {
            return Some(after[..usize::from(*length)].to_vec());
        }
        rest = &after[usize::from(*length)..];
    }
    None
}

pub(super) fn holds(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}
