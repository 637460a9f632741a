//! The protocols under `proto/`: their style, and that nothing which was promised changes its meaning.
//!
//! What was promised stands in `proto/frozen.binpb`, a descriptor set. Adding to the protocols needs nothing; to
//! promise the additions too, [`freeze`] is run by hand and its result is committed and reviewed. Compilation of the
//! protocols for Rust is the business of crate `proto`.

use std::process::Command;

use anyhow::Context;

use crate::{house, python, run};

const FROZEN: &str = "proto/frozen.binpb";

/// Style, and breakage against what is frozen.
pub(crate) fn check() -> anyhow::Result<()> {
    let buf = buf()?;
    run::check(buf(&["lint", "proto"]).current_dir(house::root()))
        .context("the protocols do not follow the style in proto/buf.yaml")?;
    run::check(&mut buf(&["breaking", "proto", "--against", FROZEN])).context(
        "a frozen protocol was changed in a way that a process or a file of the last release would misread; \
         add beside it, or, if nobody can have it yet, run `cargo xtask proto freeze` and say why in the commit",
    )
}

/// Rewrites [`FROZEN`] from the protocols as they are now.
pub(crate) fn freeze() -> anyhow::Result<()> {
    let buf = buf()?;
    run::check(&mut buf(&["lint", "proto"]))?;
    run::check(&mut buf(&["build", "proto", "--as-file-descriptor-set", "--exclude-source-info", "-o", FROZEN]))?;
    println!("{FROZEN} is what the protocols say now");
    Ok(())
}

fn buf() -> anyhow::Result<impl Fn(&[&str]) -> Command> {
    let program = python::environment("buf")?.join("buf");
    Ok(move |args: &[&str]| {
        let mut command = run::command(&program);
        command.args(args).env("BUF_CACHE_DIR", house::target().join("tools/buf-cache"));
        command
    })
}
