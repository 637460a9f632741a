//! `cargo xtask bench`: builds what is measured and what measures it, and starts the latter.
//!
//! Both are optimised: the program as it is shipped, unless `--binary` names another; the load generator in the profile
//! that is quicker to build, since link-time optimisation gains it nothing.

use std::ffi::OsString;

use crate::run::{self, cargo};
use crate::{guest_image, house, sim};

/// The profile of the load generator.
const PROFILE: &str = "profiling";

/// Measures; `args` go to the load generator.
pub(crate) fn bench(args: &[OsString]) -> anyhow::Result<()> {
    if let Some((first, rest)) = args.split_first().filter(|(first, _)| *first == "liveness") {
        return sim::optimised(&first.to_string_lossy(), rest);
    }
    let is = |words: &[&str]| args.iter().filter_map(|arg| arg.to_str()).any(|arg| words.contains(&arg));
    let asks = is(&["--help", "-h"]);
    run::check(&mut cargo(["build", "--profile", PROFILE, "--package", "bench"]))?;
    // From where the caller stands: paths among the arguments are the caller's.
    let mut command = std::process::Command::new(house::target().join(PROFILE).join("bench"));
    command.args(args);
    // On the disk of the build, which is one: a home in memory would make every sync free.
    if !is(&["--dir"]) {
        command.arg("--dir").arg(house::target().join("bench"));
    }
    if !is(&["--binary"]) {
        if !asks {
            run::check(&mut cargo(["build", "--release", "--package", "mainstay"]))?;
        }
        command.arg("--binary").arg(house::target().join("release/mainstay"));
    }
    if !asks {
        guest_image::build(&house::guest_image(), &mut |line| eprintln!("{line}"))?;
    }
    run::check(&mut command)
}
