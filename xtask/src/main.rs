//! Developer and set-up commands: `cargo xtask VERB`.

fn main() -> anyhow::Result<()> {
    let verb = std::env::args().nth(1).unwrap_or_default();
    match verb.as_str() {
        other => anyhow::bail!("unknown verb {other:?}"),
    }
}
