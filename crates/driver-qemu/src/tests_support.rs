//! One guest and its network, for this crate's tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use driver::{GuestSpec, ImageFormat, ImageRef, NetworkId, NetworkSpec, NetworkState, Nic, PortId, PortState, Subnet};

pub(crate) fn spec() -> GuestSpec {
    let id = |text: &str| text.parse().expect("a UUID");
    GuestSpec {
        id: id("6d1f3c58-5a1c-4c9b-8f0e-0a5d1c2b3e4f"),
        name: "one".into(),
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
        image: ImageRef { sha256: "ab".repeat(32), format: ImageFormat::Qcow2, size_bytes: 1, virtual_size_bytes: 1 },
        nics: vec![Nic {
            port: "11111111-1111-4111-8111-111111111111".parse::<PortId>().expect("a UUID"),
            network: "22222222-2222-4222-8222-222222222222".parse::<NetworkId>().expect("a UUID"),
            mac: "fa:16:3e:00:00:01".into(),
            mtu: 1500,
        }],
        meta_data: r#"{"uuid": "6d1f3c58-5a1c-4c9b-8f0e-0a5d1c2b3e4f", "hostname": "tiny", "name": "tiny"}"#.into(),
        network_data: "{}".into(),
        user_data: Vec::new(),
        config_drive: true,
    }
}

pub(crate) fn network(nic: &Nic) -> NetworkState {
    let subnet = |cidr: &str, gateway: &str| Subnet {
        cidr: cidr.parse().expect("a range"),
        gateway: Some(gateway.parse().expect("an address")),
        dhcp: true,
        dns: Vec::new(),
        routes: Vec::new(),
    };
    let spec_of_network = NetworkSpec {
        id: nic.network,
        name: "net".into(),
        mtu: 1500,
        subnets: vec![subnet("10.9.0.0/24", "10.9.0.1"), subnet("fd00:9::/64", "fd00:9::1")],
        routers: Vec::new(),
        host_access: false,
        host_address: None,
    };
    NetworkState {
        version: 1,
        spec: Arc::new(spec_of_network),
        ports: vec![Arc::new(PortState {
            id: nic.port,
            network: nic.network,
            guest: spec().id,
            mac: nic.mac.clone(),
            addresses: ["10.9.0.5/24", "fd00:9::5/64"].map(|text| text.parse().expect("an address")).to_vec(),
            allowed_pairs: Vec::new(),
            host_name: "tiny".into(),
            secured: true,
            rules: Vec::new(),
            metadata: driver::Documents::default(),
        })],
        groups: BTreeMap::new(),
    }
}
