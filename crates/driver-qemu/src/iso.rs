//! A writer of small ISO 9660 images with Rock Ridge names: the config drive.
//!
//! The whole image is built in memory: volume descriptor, path tables, directories, files, each in sectors of 2048
//! bytes. Plain ISO names are numbers (nobody looks at them); the real names, in lower case and of any length that a
//! directory record holds, are Rock Ridge `NM` entries, which Linux and the BSDs read.
//!
//! Absent: Joliet, boot records, dates other than the epoch (equal content gives equal bytes), files above 4 GiB.

use std::collections::BTreeMap;

const SECTOR: usize = 2048;
/// Sectors 0 to 15 belong to the system, 16 and 17 are the descriptors, 18 and 19 the path tables.
const FIRST_FREE: u32 = 20;

#[derive(Default)]
struct Directory<'a> {
    directories: BTreeMap<&'a str, usize>,
    files: BTreeMap<&'a str, &'a [u8]>,
    parent: usize,
}

/// An image labelled `label` with these files: path (components of at most 100 bytes, joined by `/`) and content.
pub(crate) fn build(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let tree = tree(files);
    // Every directory fits one sector: a dozen records of about 100 bytes. `extents` is where each one lies.
    let extent_of = |index: usize| FIRST_FREE + u32::try_from(index).expect("a handful of directories");
    let mut at = extent_of(tree.len());
    let mut places = BTreeMap::new();
    for (index, directory) in tree.iter().enumerate() {
        for (name, content) in &directory.files {
            places.insert((index, *name), at);
            at += sectors(content.len());
        }
    }
    let mut image = vec![0; at as usize * SECTOR];
    let tables = [
        path_table(&tree, extent_of, u32::to_le_bytes, u16::to_le_bytes),
        path_table(&tree, extent_of, u32::to_be_bytes, u16::to_be_bytes),
    ];
    put(&mut image, 16, &primary_descriptor(label, at, extent_of(0), tables[0].len()));
    put(&mut image, 17, b"\xffCD001\x01");
    put(&mut image, 18, &tables[0]);
    put(&mut image, 19, &tables[1]);
    for (index, directory) in tree.iter().enumerate() {
        let mut bytes = Vec::new();
        let own = [susp_start(index == 0), px(true)].concat();
        bytes.extend(record(&[0], extent_of(index), SECTOR, true, &own));
        bytes.extend(record(&[1], extent_of(directory.parent), SECTOR, true, &px(true)));
        for (number, (name, child)) in directory.directories.iter().enumerate() {
            bytes.extend(record(&plain_name('D', number), extent_of(*child), SECTOR, true, &named(name, true)));
        }
        for (number, (name, content)) in directory.files.iter().enumerate() {
            let place = places[&(index, *name)];
            bytes.extend(record(&plain_name('F', number), place, content.len(), false, &named(name, false)));
            put(&mut image, place, content);
        }
        assert!(bytes.len() <= SECTOR, "a config drive has few files to a directory");
        put(&mut image, extent_of(index), &bytes);
    }
    image
}

fn tree<'a>(files: &[(&'a str, &'a [u8])]) -> Vec<Directory<'a>> {
    let mut tree = vec![Directory::default()];
    for (path, content) in files {
        let (mut at, mut rest) = (0, *path);
        while let Some((name, below)) = rest.split_once('/') {
            at = match tree[at].directories.get(name) {
                Some(child) => *child,
                None => {
                    tree.push(Directory { parent: at, ..Directory::default() });
                    let child = tree.len() - 1;
                    tree[at].directories.insert(name, child);
                    child
                }
            };
            rest = below;
        }
        tree[at].files.insert(rest, content);
    }
    tree
}

fn sectors(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(SECTOR)).expect("a config drive is far below 4 GiB")
}

fn put(image: &mut [u8], sector: u32, bytes: &[u8]) {
    let start = sector as usize * SECTOR;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}

/// A number in both byte orders, as ISO 9660 has it.
fn both32(value: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&value.to_le_bytes());
    out[4..].copy_from_slice(&value.to_be_bytes());
    out
}

fn both16(value: u16) -> [u8; 4] {
    let mut out = [0; 4];
    out[..2].copy_from_slice(&value.to_le_bytes());
    out[2..].copy_from_slice(&value.to_be_bytes());
    out
}

fn plain_name(kind: char, number: usize) -> Vec<u8> {
    let suffix = if kind == 'F' { ".;1" } else { "" };
    format!("{kind}{number:03}{suffix}").into_bytes()
}

fn record(name: &[u8], extent: u32, bytes: usize, directory: bool, system_use: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(extent));
    out.extend(both32(u32::try_from(bytes).expect("a config drive is far below 4 GiB")));
    out.extend([70, 1, 1, 0, 0, 0, 0]); // 1970-01-01, UTC
    out.extend([if directory { 2 } else { 0 }, 0, 0]);
    out.extend(both16(1));
    out.push(u8::try_from(name.len()).expect("plain names are short"));
    out.extend(name);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out.extend(system_use);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out[0] = u8::try_from(out.len()).expect("names are at most 100 bytes");
    out
}

/// What tells a reader, in the root's own record, that Rock Ridge entries follow everywhere.
fn susp_start(root: bool) -> Vec<u8> {
    if root {
        [&b"SP\x07\x01\xbe\xef\x00"[..], &b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A"[..]].concat()
    } else {
        Vec::new()
    }
}

/// Mode, links and owner: readable by root alone, for user data holds secrets.
fn px(directory: bool) -> Vec<u8> {
    let (mode, links) = if directory { (0o040_500, 2) } else { (0o100_400, 1) };
    [&b"PX\x24\x01"[..], &both32(mode), &both32(links), &both32(0), &both32(0)].concat()
}

fn named(name: &str, directory: bool) -> Vec<u8> {
    assert!(name.len() <= 100, "names of a config drive are short");
    let length = u8::try_from(5 + name.len()).expect("just bounded");
    [&[b'N', b'M', length, 1, 0], name.as_bytes(), &px(directory)].concat()
}

fn path_table(
    tree: &[Directory<'_>],
    extent_of: impl Fn(usize) -> u32,
    word: fn(u32) -> [u8; 4],
    half: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut names = vec![vec![0]; tree.len()];
    for directory in tree {
        for (number, child) in directory.directories.values().enumerate() {
            names[*child] = plain_name('D', number);
        }
    }
    let mut out = Vec::new();
    for (index, directory) in tree.iter().enumerate() {
        out.extend([u8::try_from(names[index].len()).expect("plain names are short"), 0]);
        out.extend(word(extent_of(index)));
        out.extend(half(u16::try_from(directory.parent + 1).expect("a handful of directories")));
        out.extend(&names[index]);
        if out.len() % 2 == 1 {
            out.push(0);
        }
    }
    out
}

fn primary_descriptor(label: &str, sectors: u32, root: u32, table_bytes: usize) -> Vec<u8> {
    let mut out = b"\x01CD001\x01\x00".to_vec();
    out.extend([b' '; 32]);
    out.extend(format!("{label:32.32}").bytes());
    out.extend([0; 8]);
    out.extend(both32(sectors));
    out.extend([0; 32]);
    out.extend([both16(1), both16(1), both16(2048)].concat());
    out.extend(both32(u32::try_from(table_bytes).expect("a handful of directories")));
    out.extend(18_u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(19_u32.to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], root, SECTOR, true, &[]));
    out.extend([b' '; 4 * 128 + 3 * 37]);
    for _ in 0..4 {
        out.extend(*b"0000000000000000\x00");
    }
    out.push(1);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le32(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// Reads an image as a Rock Ridge reader does: from the root record on, names from `NM` only.
    fn walk(image: &[u8], extent: usize, bytes: usize, prefix: &str, out: &mut BTreeMap<String, Vec<u8>>) {
        let data = &image[extent * SECTOR..extent * SECTOR + bytes];
        let mut at = 0;
        while at < data.len() && data[at] != 0 {
            let record = &data[at..at + data[at] as usize];
            at += record.len();
            let name_len = record[32] as usize;
            let mut system_use = &record[33 + name_len + (name_len + 1) % 2..];
            let mut name = None;
            while system_use.len() >= 4 {
                let (entry, rest) = system_use.split_at(system_use[2] as usize);
                if entry.starts_with(b"NM") {
                    name = Some(String::from_utf8(entry[5..].to_vec()).unwrap());
                }
                system_use = rest;
            }
            let Some(name) = name else { continue };
            let (extent, bytes) = (le32(record, 2), le32(record, 10));
            if record[25] & 2 != 0 {
                walk(image, extent, bytes, &format!("{prefix}{name}/"), out);
            } else {
                out.insert(format!("{prefix}{name}"), image[extent * SECTOR..extent * SECTOR + bytes].to_vec());
            }
        }
    }

    #[test]
    fn what_goes_in_is_found_under_its_own_name() {
        let large = vec![7; 5000];
        let files: [(&str, &[u8]); 4] = [
            ("openstack/latest/meta_data.json", b"{\"uuid\":\"x\"}"),
            ("openstack/latest/user_data", &large),
            ("openstack/latest/network_data.json", b""),
            ("openstack/content/0000", b"#"),
        ];
        let image = build("config-2", &files);
        assert_eq!(&image[16 * SECTOR + 40..16 * SECTOR + 48], b"config-2");
        assert_eq!(le32(&image, 16 * SECTOR + 80) * SECTOR, image.len());
        let mut found = BTreeMap::new();
        let root = &image[16 * SECTOR + 156..];
        walk(&image, le32(root, 2), le32(root, 10), "", &mut found);
        let wanted: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
        assert_eq!(found, wanted);
    }
}
