//! Figures of the benches.

use crate::Result;

/// What the arguments ask for; five rounds of everything if they are silent.
pub fn scale(arguments: &[String]) -> Result<Scale> {
    match arguments {
        [] => Ok(Scale { rounds: 5, part: 1 }),
        [flag] if flag == "--short" => Ok(Scale { rounds: 1, part: 20 }),
        [flag, count] if flag == "--rounds" => {
            Ok(Scale { rounds: count.parse::<usize>()?.max(1), part: 1 })
        }
        _ => Err("usage: [--rounds N | --short]".into()),
    }
}

/// How much a bench does. `--short` shows that it runs and that its checks hold; its figures are of
/// no worth.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Rounds of everything.
    pub rounds: usize,
    /// What sizes and times are divided by.
    pub part: u64,
}

/// Sorts, and tells the median and the range.
pub fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.first(), values.last()) {
        (Some(middle), Some(least), Some(most)) => {
            let digits = if *middle < 100.0 { 2 } else { 0 };
            format!("{middle:.digits$} ({least:.digits$} to {most:.digits$})")
        }
        _ => "none".to_owned(),
    }
}
