//! Arithmetic of addresses: pools, choice, overlap, derivation. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::name::Mac;

/// Draws before the pools are walked in order. While a pool is less than half full, one draw in a million needs more.
const DRAWS: usize = 20;
/// Addresses that are looked at when walking. Larger than any pool that can be full: a cell has fewer ports.
const WALK_MAX: u128 = 1 << 20;

/// A range of addresses of one family, both ends included, `first` not behind `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    first: IpAddr,
    last: IpAddr,
}

impl Pool {
    /// The range, if its ends are of one family and in order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Pool> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Pool { first, last })
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Pool) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    fn size(&self) -> u128 {
        number(self.last) - number(self.first) + 1
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Chooses an address of `pools` for which `free` says yes: drawn at random, so that creates that run side by side
/// rarely meet; when draws keep failing, the next free one behind a random start. `None`: all are taken.
pub fn choose(
    pools: &[Pool],
    mut below: impl FnMut(u64) -> u64,
    mut free: impl FnMut(IpAddr) -> bool,
) -> Option<IpAddr> {
    let total: u128 = pools.iter().map(Pool::size).fold(0, u128::saturating_add);
    if total == 0 {
        return None;
    }
    let drawable = u64::try_from(total).unwrap_or(u64::MAX);
    for _ in 0..DRAWS {
        let address = nth(pools, u128::from(below(drawable)))?;
        if free(address) {
            return Some(address);
        }
    }
    let start = u128::from(below(drawable));
    (0..total.min(WALK_MAX)).filter_map(|step| nth(pools, (start + step) % total)).find(|address| free(*address))
}

fn nth(pools: &[Pool], mut index: u128) -> Option<IpAddr> {
    for pool in pools {
        if index < pool.size() {
            return Some(from_number(number(pool.first) + index, pool.first.is_ipv4()));
        }
        index -= pool.size();
    }
    None
}

/// The pools of a range when none are given: all addresses of hosts but `reserved`.
pub fn default_pools(cidr: &IpNet, reserved: &[IpAddr]) -> Vec<Pool> {
    let v4 = cidr.addr().is_ipv4();
    // IPv4 gives up network and broadcast address; in IPv6 the first address means "any router".
    let mut first = number(cidr.network()) + 1;
    let last = number(cidr.broadcast()) - u128::from(v4);
    let mut taken: Vec<u128> = reserved.iter().filter(|address| cidr.contains(*address)).map(|a| number(*a)).collect();
    taken.sort_unstable();
    taken.dedup();
    let mut pools = Vec::new();
    for stop in taken {
        if first < stop {
            pools.push(Pool { first: from_number(first, v4), last: from_number(stop - 1, v4) });
        }
        first = first.max(stop + 1);
    }
    if first <= last {
        pools.push(Pool { first: from_number(first, v4), last: from_number(last, v4) });
    }
    pools
}

/// The gateway of a range when none is given: its first address of a host.
pub fn default_gateway(cidr: &IpNet) -> IpAddr {
    from_number(number(cidr.network()) + 1, cidr.addr().is_ipv4())
}

/// Whether a host can have `address` in this range.
pub fn is_host(cidr: &IpNet, address: IpAddr) -> bool {
    let edge = address == cidr.network() || (address.is_ipv4() && address == cidr.broadcast());
    cidr.contains(&address) && !edge
}

/// Whether two ranges share an address.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The address that a host with hardware address `mac` gives itself in a range of 64 bits (EUI-64).
pub fn derived(cidr: &IpNet, mac: Mac) -> Option<IpAddr> {
    let IpNet::V6(net) = cidr else { return None };
    if net.prefix_len() != 64 {
        return None;
    }
    let [a, b, c, d, e, f] = *mac.as_bytes();
    let host = u64::from_be_bytes([a ^ 0x02, b, c, 0xff, 0xfe, d, e, f]);
    Some(IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | u128::from(host))))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 {
        let low = u32::try_from(number & u128::from(u32::MAX)).expect("masked to 32 bits");
        IpAddr::V4(Ipv4Addr::from(low))
    } else {
        IpAddr::V6(Ipv6Addr::from(number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check_pools(cidr: &str, reserved: &[&str], expected: &str) {
        let reserved: Vec<IpAddr> = reserved.iter().map(|text| ip(text)).collect();
        let found: Vec<String> = default_pools(&net(cidr), &reserved).iter().map(Pool::to_string).collect();
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn default_pools_leave_out_what_is_reserved() {
        check_pools("10.0.0.0/24", &["10.0.0.1"], "10.0.0.2-10.0.0.254");
        check_pools("10.0.0.0/24", &["10.0.0.9"], "10.0.0.1-10.0.0.8 10.0.0.10-10.0.0.254");
        check_pools("10.0.0.0/24", &["10.0.0.254", "10.0.0.1"], "10.0.0.2-10.0.0.253");
        check_pools("10.0.0.0/30", &["10.0.0.1", "10.0.0.2"], "");
        check_pools("10.0.0.0/24", &["10.9.9.9"], "10.0.0.1-10.0.0.254");
        check_pools("fd00::/64", &["fd00::1"], "fd00::2-fd00::ffff:ffff:ffff:ffff");
    }

    #[test]
    fn a_choice_finds_the_last_free_address_and_then_none() {
        let pools = default_pools(&net("10.0.0.0/28"), &[ip("10.0.0.1"), ip("10.0.0.7")]);
        let mut taken = BTreeSet::new();
        let mut seed = 7_u64;
        let mut below = move |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % limit
        };
        for _ in 0..12 {
            let address = choose(&pools, &mut below, |address| !taken.contains(&address)).expect("one is free");
            assert!(pools.iter().any(|pool| pool.contains(address)));
            assert!(taken.insert(address));
        }
        assert_eq!(choose(&pools, &mut below, |address| !taken.contains(&address)), None);
        assert_eq!(choose(&[], &mut below, |_| true), None);
    }

    #[test]
    fn a_choice_in_a_large_range_asks_about_few_addresses() {
        let pools = default_pools(&net("fd00::/64"), &[]);
        let mut asked = 0;
        let found = choose(
            &pools,
            |limit| limit / 3,
            |_| {
                asked += 1;
                true
            },
        );
        assert!(found.is_some() && asked == 1);
    }

    #[test]
    fn overlap_is_sharing_an_address() {
        for (one, other, expected) in [
            ("10.0.0.0/24", "10.0.0.128/25", true),
            ("10.0.0.128/25", "10.0.0.0/24", true),
            ("10.0.0.0/24", "10.0.1.0/24", false),
            ("10.0.0.0/24", "fd00::/64", false),
            ("fd00::/64", "fd00::/64", true),
        ] {
            assert_eq!(overlap(&net(one), &net(other)), expected, "{one} {other}");
        }
    }

    #[test]
    fn derived_addresses_are_eui_64() {
        let mac: Mac = "fa:16:3e:01:02:03".parse().unwrap();
        assert_eq!(derived(&net("fd00:1::/64"), mac), Some(ip("fd00:1::f816:3eff:fe01:203")));
        assert_eq!(derived(&net("10.0.0.0/24"), mac), None);
    }
}
