//! Figures of the benches.

use crate::Result;

/// `--rounds N`, else 5.
pub fn rounds(arguments: &[String]) -> Result<usize> {
    match arguments {
        [] => Ok(5),
        [flag, count] if flag == "--rounds" => Ok(count.parse::<usize>()?.max(1)),
        _ => Err("usage: [--rounds N]".into()),
    }
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
