//! What a guest is, as the log stores it.

use bytes::Bytes;
use driver::{GuestId, GuestSpec, ImageFormat, ImageRef, NetworkId, Nic, PortId};
use proto::agent::state::v1 as stored;

use super::{CodecError, Result, put_id, take_id};

pub(super) fn put(spec: &GuestSpec) -> stored::GuestSpec {
    stored::GuestSpec {
        id: put_id(spec.id.as_uuid()),
        name: spec.name.clone(),
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        disk_gib: spec.disk_gib,
        image_sha256: spec.image.sha256.clone(),
        image_qcow2: match spec.image.format {
            ImageFormat::Qcow2 => true,
            ImageFormat::Raw => false,
        },
        image_bytes: spec.image.size_bytes,
        image_virtual_bytes: spec.image.virtual_size_bytes,
        nics: spec.nics.iter().map(put_nic).collect(),
        meta_data: spec.meta_data.clone(),
        network_data: spec.network_data.clone(),
        user_data: Bytes::copy_from_slice(&spec.user_data),
        config_drive: spec.config_drive,
    }
}

pub(super) fn take(spec: stored::GuestSpec) -> Result<GuestSpec> {
    Ok(GuestSpec {
        id: GuestId::from_uuid(take_id(&spec.id)?),
        name: spec.name,
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        disk_gib: spec.disk_gib,
        image: ImageRef {
            sha256: spec.image_sha256,
            format: if spec.image_qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw },
            size_bytes: spec.image_bytes,
            virtual_size_bytes: spec.image_virtual_bytes,
        },
        nics: spec.nics.into_iter().map(take_nic).collect::<Result<_>>()?,
        meta_data: spec.meta_data,
        network_data: spec.network_data,
        user_data: spec.user_data.into(),
        config_drive: spec.config_drive,
    })
}

fn put_nic(nic: &Nic) -> stored::Nic {
    stored::Nic {
        port: put_id(nic.port.as_uuid()),
        network: put_id(nic.network.as_uuid()),
        mac: nic.mac.clone(),
        mtu: nic.mtu.into(),
    }
}

fn take_nic(nic: stored::Nic) -> Result<Nic> {
    Ok(Nic {
        port: PortId::from_uuid(take_id(&nic.port)?),
        network: NetworkId::from_uuid(take_id(&nic.network)?),
        mac: nic.mac,
        mtu: u16::try_from(nic.mtu).map_err(|_| CodecError("an MTU above 65535"))?,
    })
}
