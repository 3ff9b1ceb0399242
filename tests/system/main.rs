//! One binary for everything that only the whole can show.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod at_rest;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod fault;
#[cfg(test)]
mod feedback;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod uscc;
#[cfg(test)]
mod walk_through;
#[cfg(test)]
mod watch;
