//! The size of the binary, as it is and without its symbols.

use std::process::Command;

use anyhow::bail;

use crate::Settings;
use crate::table::{Aim, Row};

pub fn measure(settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let stripped = dir.path().join("stripped");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(&settings.binary).status()?;
    if !status.success() {
        bail!("`strip` ended with {status}");
    }
    let size = |path| std::fs::metadata(path).map(|found| found.len() as f64 / 1e6);
    let how = format!("by `strip`; with symbols and lines {:.0} MB", size(settings.binary.as_path())?);
    Ok(vec![Row::new("binary, stripped", size(&stripped)?, "MB").aim(Aim::AtMost(60.0)).against(how)])
}
