//! The catalogue's files.

use super::Catalogue;
use crate::diagnostic::{Bundle, Diagnostics};

pub(super) fn load(_bundle: &Bundle) -> Result<Catalogue, Diagnostics> {
    todo!()
}
