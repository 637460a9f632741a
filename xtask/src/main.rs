//! Developer and set-up commands: `cargo xtask VERB`.

mod guest_image;

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let verb = std::env::args().nth(1).unwrap_or_default();
    match verb.as_str() {
        "guest-image" => {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            guest_image::build(&root.join("target/guest/tiny.qcow2"), &mut |line| println!("{line}"))
        }
        other => anyhow::bail!("unknown verb {other:?}"),
    }
}
