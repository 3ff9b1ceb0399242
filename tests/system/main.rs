//! One binary for everything that only the whole can show.

#[cfg(test)]
mod architecture;
