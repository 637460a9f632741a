//! Developer and set-up commands: `cargo xtask VERB`.

mod guest_image;

use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let verb = std::env::args().nth(1).unwrap_or_default();
    match verb.as_str() {
        "guest-image" => {
            let standard = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/guest/tiny.qcow2");
            let out = std::env::args_os().nth(2).map_or(standard, PathBuf::from);
            guest_image::build(&out, &mut |line| println!("{line}"))
        }
        other => anyhow::bail!("unknown verb {other:?}"),
    }
}
