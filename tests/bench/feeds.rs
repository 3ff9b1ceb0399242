//! Rows a second and peak memory for each kind of feed, beside the script a department would write.
//!
//! `bench-feeds [--rounds N | --short]`. 100,000 rows of 21 columns. We decode, map and validate by
//! every rule; the script reads, takes eleven columns, trims, converts a date and an amount and
//! writes a JSON line. Each round runs both, each in a process of its own. A kind of feed is a
//! module below that hands its two children to [`measure::compare`].
#![expect(clippy::print_stdout, reason = "a program that reports")]
#![expect(clippy::float_arithmetic, reason = "rates and ratios")]

#[path = "feeds/database.rs"]
mod database;
#[path = "feeds/files.rs"]
mod files;
#[path = "feeds/measure.rs"]
mod measure;
#[path = "feeds/soap.rs"]
mod soap;

use xinqiao_tests::{Result, scale};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A child of our own: the one flag that its module looks for.
    match &arguments[..] {
        [flag, rest @ ..] if flag == files::CHILD => return files::child(rest),
        [flag, rest @ ..] if flag == database::CHILD => return database::child(rest),
        [flag, rest @ ..] if flag == soap::CHILD => return soap::child(rest),
        _ => {}
    }
    let scale = scale(&arguments)?;
    files::bench(scale)?;
    soap::bench(scale)?;
    database::bench(scale)
}
