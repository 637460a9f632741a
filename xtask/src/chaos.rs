//! `cargo xtask chaos`: builds what is harmed and what harms it, and starts the latter.
//!
//! The storm itself is the program `chaos` beside the tests of whole cells, which run a short form of it.

use std::ffi::OsString;

use crate::run::{self, cargo};
use crate::{guest_image, house, packages};

/// Harms; `args` go to the storm.
pub(crate) fn chaos(args: &[OsString]) -> anyhow::Result<()> {
    let is = |word: &str| args.iter().any(|arg| arg.to_string_lossy().split('=').any(|part| part == word));
    if !is("--help") && !is("-h") && !is("fake") {
        packages::for_tests()?;
        guest_image::build(&house::guest_image(), &mut |line| println!("{line}"))?;
    }
    // The storm takes the program that lies beside it.
    run::check(&mut cargo(["build", "--package", "mainstay", "--package", "cell-tests", "--bins", "--locked"]))?;
    run::check(run::command(house::target().join("debug/chaos")).args(args))
}
