//! Names of files: which are finished, which are wanted, which go along with another.

use std::collections::BTreeSet;

/// Whether the name is of a finished file: hidden, temporary and office lock files are not.
pub(super) fn is_whole_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let begun = name.starts_with('.') || name.starts_with("~$");
    !begun && ![".tmp", ".part", ".filepart"].iter().any(|suffix| name.ends_with(suffix))
}

/// The companion files among `names` that say `name` is whole: `a.csv.ok` and `a.ok`.
pub(super) fn companions(name: &[u8], flag: &[u8], names: &BTreeSet<&[u8]>) -> Vec<Vec<u8>> {
    let with = |stem: &[u8]| [stem, flag].concat();
    let mut files = vec![with(name), with(split(name).0)];
    files.retain(|file| file != name && names.contains(file.as_slice()));
    files.dedup();
    files
}

/// `a.csv` → `a-2.csv`.
pub(in crate::sources) fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    if number == 0 {
        return name.to_vec();
    }
    let (stem, extension) = split(name);
    [stem, format!("-{number}").as_bytes(), extension].concat()
}

/// `a.csv` → `a`, `.csv`. A leading dot begins no extension.
pub(super) fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let at = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    name.split_at_checked(at.unwrap_or(name.len())).unwrap_or((name, b""))
}

/// Whether a name fits a pattern of `*` (any run) and `?` (one character), both in lower case.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on if the last `*` has to take one character more.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&want) if want == '?' || want == c => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("*", ""),
            ("*.csv", "a.csv"),
            ("??-*.x", "局a-1-2.x"),
            ("a*b*c", "axxbyybzc"),
            ("*a*", "a"),
            ("处罚*", "处罚表.xlsx"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.csv", "a.csvx"), ("?", ""), ("a*b", "a"), ("", "a"), ("?", "ab")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn unfinished_names_are_known() {
        for name in ["a.tmp", "A.PART", "a.csv.filepart", "~$a.xlsx", ".a.csv"] {
            assert!(!is_whole_name(name), "{name}");
        }
        assert!(is_whole_name("a.csv"));
        let names: BTreeSet<&[u8]> = [b"a.csv.ok".as_slice(), b"a.ok", b"b.csv.ok"].into();
        assert_eq!(companions(b"a.csv", b".ok", &names), [b"a.csv.ok".as_slice(), b"a.ok"]);
        assert_eq!(companions(b"a", b".ok", &names), [b"a.ok"]);
        assert_eq!(companions(b"b.csv", b".ok", &names), [b"b.csv.ok"]);
        assert!(companions(b"c.csv", b".ok", &names).is_empty());
        assert_eq!(numbered(b"a.tar.gz", 2), b"a.tar-2.gz");
        assert_eq!(numbered(b".a", 1), b".a-1");
    }
}
