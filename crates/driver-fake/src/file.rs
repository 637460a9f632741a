//! What a machine in a directory remembers: one line a change, `NODE GUEST STATE RUN`.
//!
//! The first line names the boot of the real machine. In another boot nothing runs any more. A last line without its end
//! was torn by the death of the writer, whose caller was not answered: it counts for nothing. One that a full disk tore is
//! cut off before the next is written behind it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use driver::{GuestId, Observed, Run};

pub(crate) type Guests = BTreeMap<(String, GuestId), Observed>;

pub(crate) struct Book {
    file: File,
    /// The length of its whole lines.
    length: u64,
}

impl Book {
    /// Opens the book and returns it with what is in it.
    pub(crate) fn open(path: &Path, boot: &str) -> std::io::Result<(Book, Guests)> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let guests = parse(&text, boot);
        let mut fresh = format!("boot {boot}\n");
        guests.iter().for_each(|((node, guest), observed)| line(&mut fresh, node, *guest, Some(*observed)));
        // The old book is good until the new one is whole.
        let beside = path.with_extension("new");
        std::fs::write(&beside, fresh)?;
        std::fs::rename(&beside, path)?;
        let file = File::options().append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok((Book { file, length }, guests))
    }

    /// Notes how a guest stands; `None`: it is gone.
    pub(crate) fn note(&mut self, node: &str, guest: GuestId, observed: Option<Observed>) -> std::io::Result<()> {
        let mut text = String::new();
        line(&mut text, node, guest, observed);
        self.write(text.as_bytes(), |file, bytes| file.write_all(bytes))
    }

    fn write(
        &mut self,
        text: &[u8],
        write: impl FnOnce(&mut File, &[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        if let Err(error) = write(&mut self.file, text) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

fn line(to: &mut String, node: &str, guest: GuestId, observed: Option<Observed>) {
    let (state, run) = match observed {
        None => ("absent", 0),
        Some(Observed::Stopped) => ("stopped", 0),
        Some(Observed::Running(run)) => ("running", run.0),
        Some(Observed::Paused(run)) => ("paused", run.0),
    };
    writeln!(to, "{node} {guest} {state} {run}").expect("writing to a String does not fail");
}

fn parse(text: &str, boot: &str) -> Guests {
    let mut guests = Guests::new();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    let same_boot = lines.next().and_then(|line| line.strip_prefix("boot ")) == Some(boot);
    for line in lines {
        let mut words = line.split(' ');
        let (Some(node), Some(guest), Some(state), Some(run)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (Ok(guest), Ok(run)) = (guest.parse(), run.parse().map(Run)) else { continue };
        let key = (node.to_owned(), guest);
        match state {
            "running" if same_boot => guests.insert(key, Observed::Running(run)),
            "paused" if same_boot => guests.insert(key, Observed::Paused(run)),
            "absent" => guests.remove(&key),
            _ => guests.insert(key, Observed::Stopped),
        };
    }
    guests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_full_disk_tore_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guests");
        let (mut book, _) = Book::open(&path, "boot").unwrap();
        let guest: GuestId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        let full = |file: &mut File, bytes: &[u8]| {
            file.write_all(&bytes[..5])?;
            Err(std::io::ErrorKind::StorageFull.into())
        };
        book.write(b"n1 00000000-0000-4000-8000-000000000002 running 1\n", full).unwrap_err();
        book.note("n1", guest, Some(Observed::Running(Run(1)))).unwrap();
        let (_, guests) = Book::open(&path, "boot").unwrap();
        assert_eq!(guests, Guests::from([(("n1".to_owned(), guest), Observed::Running(Run(1)))]));
    }
}
