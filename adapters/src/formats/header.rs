//! Finding the heading row (表头) among the first rows.

use std::collections::HashSet;

use xinqiao_core::value::heading;

/// How many rows are looked at.
pub(super) const WINDOW: usize = 30;

/// The index of the heading row in `rows`. With `known` headings: the first row holding the most
/// of them, at least two (or all, if fewer are known). Without: the first row of at least three
/// filled cells that no later row exceeds.
pub(super) fn pick(rows: &[Vec<&str>], known: &[String]) -> Option<usize> {
    if known.is_empty() {
        return guess(rows);
    }
    let known: HashSet<&str> = known.iter().map(String::as_str).collect();
    let needed = known.len().min(2);
    let mut best: Option<(usize, usize)> = None;
    for (ix, row) in rows.iter().enumerate() {
        let met: HashSet<String> =
            row.iter().map(|cell| heading(cell)).filter(|h| known.contains(h.as_str())).collect();
        if met.len() >= needed && best.is_none_or(|(_, most)| met.len() > most) {
            best = Some((ix, met.len()));
        }
    }
    best.map(|(ix, _)| ix)
}

fn guess(rows: &[Vec<&str>]) -> Option<usize> {
    let filled: Vec<usize> =
        rows.iter().map(|row| row.iter().filter(|c| !c.trim().is_empty()).count()).collect();
    let most = filled.iter().copied().max().unwrap_or(0);
    let needed = most.clamp(1, 3);
    // Most rows of a table fill over half of its columns; a note row fills one or two cells.
    filled.iter().position(|&n| n >= needed && n * 2 > most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_with_most_known_headings_wins_over_a_note() {
        let rows =
            vec![vec!["名称 请填写全称"], vec!["名称", "文号 ", "日期"], vec!["甲", "1", "2"]];
        let known = vec!["名称".to_owned(), "文号".to_owned()];
        assert_eq!(pick(&rows, &known), Some(1));
        assert_eq!(pick(&rows, &["别的".to_owned(), "名称".to_owned()]), None);
        assert_eq!(pick(&rows, &[]), Some(1));
        assert_eq!(pick(&[], &known), None);
    }
}
