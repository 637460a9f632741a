//! The firewall of one network's namespace, as text for `nft`: a pure function of its [`Plan`].
//!
//! How to think of it. Each frame is looked at twice. The **bridge** table sees the frame as it comes from a tap: it
//! drops what the port may not send at all (another's MAC or address, answers that only the node may give) and marks
//! the packet with the port's number in the upper half of the mark, and, when the bridge knows the way out, with the
//! receiving port's number in the lower half. The **inet** table then sees the packet with its connection's state
//! (bridged packets pass it because `bridge-nf-call-iptables` is on in the namespace) and goes by the marks to the
//! sender's egress rules and the receiver's ingress rules.
//!
//! Answers pass by the state of their connection. What goes in a connection's original direction is asked again for
//! every packet, so that a rule which was taken away stops its connections too, and one that stays does not.
//!
//! The whole text is one transaction: it replaces both tables or changes nothing. Devices are matched by name, so
//! rules may be there before their devices, and always are.
//!
//! Not here: which traffic a *router* lets through ([`router_ruleset`] is fixed), and anything on the host itself.

mod bridge;
mod filter;

use std::fmt::Write;

use crate::plan::{Index, Plan};

/// The complete rules of a network's namespace.
pub(crate) fn network_ruleset(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    for family in ["bridge", "inet"] {
        // Adding it first makes the deletion succeed when there is nothing yet.
        line(&mut text, format_args!("table {family} mainstay"));
        line(&mut text, format_args!("delete table {family} mainstay"));
    }
    bridge::table(&mut text, plan);
    filter::table(&mut text, plan);
    text
}

/// The complete rules of a router's namespace: it forwards, and answers nothing itself but pings, ARP and neighbour
/// discovery.
pub(crate) fn router_ruleset() -> &'static str {
    "table inet mainstay
delete table inet mainstay
table inet mainstay {
  chain input {
    type filter hook input priority filter; policy drop;
    icmp type echo-request accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
  }
}
"
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    text.write_fmt(content).and_then(|()| text.write_char('\n')).expect("writing to a String cannot fail");
}

/// The mark of packets that came in by `index` and whose way out is not known.
pub(crate) fn mark_of(index: Index) -> u32 {
    u32::from(index) << 16
}

/// The number in a mark of a packet that came in by a port; `None`: it came from elsewhere.
pub(crate) fn index_of(mark: u32) -> Option<Index> {
    let index = Index::try_from(mark >> 16).ok()?;
    (index > crate::plan::LEGS).then_some(index)
}

/// `{ a, b }`, for use in a rule.
fn braces<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

#[cfg(test)]
mod tests;
