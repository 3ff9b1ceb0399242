//! `faults`: what breaks a gateway from below, and the books afterwards. Run by `tests/fault/run`.
//!
//! `faults [--long] [kills N | cuts N | liar | full | poison | calls]...`; without a part all of them. Counts go
//! to standard output; it fails if anything acknowledged was lost, or taken twice by key, or left
//! unsound. `XINQIAO_SEED` repeats a run's chances.
#![expect(clippy::print_stdout, reason = "a program that reports")]

mod books;
mod calls;
mod disk;
mod ends;
mod full;
mod random;
mod site;

use std::time::Instant;

use xinqiao::clock::SystemClock;
use xinqiao_core::spi::Clock as _;
use xinqiao_tests::Result;

use crate::random::Random;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = arguments.iter().any(|argument| argument == "--long");
    arguments.retain(|argument| argument != "--long");
    if arguments.is_empty() {
        let (kills, cuts) = if all { ("200", "100") } else { ("10", "10") };
        arguments = ["kills", kills, "cuts", cuts, "liar", "full", "poison", "calls"]
            .map(str::to_owned)
            .into();
    }
    let seed = match std::env::var("XINQIAO_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => SystemClock.now().0,
    };
    println!("XINQIAO_SEED={seed}");
    let mut random = Random(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut held = true;
    let mut parts = arguments.iter();
    while let Some(part) = parts.next() {
        let mut count = || -> Result<u64> { Ok(parts.next().ok_or("how many?")?.parse()?) };
        let begun = Instant::now();
        let sums = match part.as_str() {
            "kills" => runtime.block_on(ends::kills(count()?, &mut random))?,
            "cuts" => runtime.block_on(ends::cuts(count()?, all, &mut random))?,
            "calls" => runtime.block_on(calls::each_once(all, &mut random))?,
            "liar" => runtime.block_on(ends::liar(&mut random))?,
            "full" => runtime.block_on(full::fill())?,
            "poison" => runtime.block_on(calls::poison())?,
            other => return Err(format!("unknown part {other}").into()),
        };
        println!("== {part}: {sums} ({:.0?})", begun.elapsed());
        held &= sums.hold();
    }
    if held { Ok(()) } else { Err("the books do not balance".into()) }
}
