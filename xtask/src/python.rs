//! Tools that come as Python packages: each set in a virtual environment of its own under `target/tools`, at the
//! versions that a pins file names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{house, run};

/// Makes (once) the environment of the pins file `xtask/pins/NAME.txt`, and returns its directory of programs.
///
/// An environment that was cut off while it was made has no stamp and is made anew.
pub(crate) fn environment(name: &str) -> anyhow::Result<PathBuf> {
    let pins_file = house::root().join("xtask/pins").join(format!("{name}.txt"));
    let pins = fs::read_to_string(&pins_file).with_context(|| format!("cannot read {}", pins_file.display()))?;
    let tools = house::target().join("tools");
    fs::create_dir_all(&tools)?;
    // Two commands at once: one installs, the other waits here and finds the work done.
    let lock = fs::File::create(tools.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("cannot lock the environment {name}"))?;
    let dir = tools.join(name);
    let stamp = dir.join("pins");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == pins) {
        return Ok(dir.join("bin"));
    }
    println!("installing {name} into {}", dir.display());
    run::check(run::command("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    run::check(pip(&dir).arg("-r").arg(&pins_file))?;
    fs::write(&stamp, pins)?;
    Ok(dir.join("bin"))
}

fn pip(dir: &Path) -> Command {
    let mut command = run::command(dir.join("bin/python"));
    command.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]);
    command
}
