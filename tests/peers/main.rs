//! Our cryptography against other people's: each side reads what the other writes, and refuses what
//! was changed. The peers come from `tests/peers/build`; where one is missing these tests fail.

#[cfg(test)]
mod batch;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod db;
#[cfg(test)]
mod db_flow;
#[cfg(test)]
mod db_kill;
#[cfg(test)]
mod db_order;
#[cfg(test)]
mod db_targets;
#[cfg(test)]
mod envelopes;
#[cfg(test)]
mod files;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod material;
#[cfg(test)]
mod primitives;
#[cfg(test)]
mod soap;
#[cfg(test)]
mod soap_servers;
#[cfg(test)]
mod tlcp;
#[cfg(test)]
mod tls;
