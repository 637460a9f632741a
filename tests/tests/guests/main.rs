//! Whole cells with real guests, on bad days: real processes of the binary, real QEMUs, real networks.
//!
//! Each needs root, QEMU, `ip`, `nft`, `ssh` and the guest image (`cargo xtask guest-image`); what is missing fails it.
//! Guests are emulated and take some ten seconds to boot, so each test has one cell and as few boots as tell something.

mod beside;
mod causes;
mod outlive;
mod power_loss;
