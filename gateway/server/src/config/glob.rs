//! Whether two file patterns (`*` any run, `?` one character, letters alike in both cases) can
//! match one name.

/// Whether some name matches both.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<char>>();
    let (a, b) = (letters(a), letters(b));
    // Row by row: whether what comes before here in `a` and in `b` can match one text.
    let mut row = vec![false; b.len() + 1];
    for i in 0..=a.len() {
        let before = std::mem::replace(&mut row, vec![false; b.len() + 1]);
        for j in 0..=b.len() {
            let (x, y) = (at(&a, i), at(&b, j));
            let (up, left) = (get(&before, Some(j)), get(&row, j.checked_sub(1)));
            let diagonal = get(&before, j.checked_sub(1));
            let same = x.zip(y).is_some_and(|(x, y)| x == y || x == '?' || y == '?');
            let any = |c: Option<char>| c == Some('*');
            let fits = (i, j) == (0, 0)
                || (i > 0 && up && (any(x) || any(y)))
                || (j > 0 && left && (any(x) || any(y)))
                || (i > 0 && diagonal && same && !any(x) && !any(y));
            if let Some(cell) = row.get_mut(j) {
                *cell = fits;
            }
        }
    }
    row.last().copied().unwrap_or(false)
}

/// The `n`th character, counted from 1.
fn at(letters: &[char], n: usize) -> Option<char> {
    n.checked_sub(1).and_then(|n| letters.get(n)).copied()
}

fn get(row: &[bool], index: Option<usize>) -> bool {
    index.and_then(|index| row.get(index)).copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn patterns_overlap_when_one_name_fits_both() {
        for (a, b, expect) in [
            ("*", "*.csv", true),
            ("*.csv", "*.xls", false),
            ("*.CSV", "处罚*.csv", true),
            ("许可*.csv", "处罚*.csv", false),
            ("a?c", "ab*", true),
            ("a?", "abc", false),
            ("*a*", "*b*", true),
            ("a*", "*a", true),
            ("", "*", true),
            ("", "?", false),
            ("*.xls", "*.xls?", false),
            ("*.xls*", "*.xlsx", true),
        ] {
            assert_eq!(overlap(a, b), expect, "{a} {b}");
            assert_eq!(overlap(b, a), expect, "{b} {a}");
        }
    }
}
