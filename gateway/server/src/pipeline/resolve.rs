//! resolve (对照): the store's mapping table, as the core asks it.

use time::Date;
use xinqiao_core::catalogue::{Resolution, UsccMap};
use xinqiao_core::ident::LegacyCode;
use xinqiao_store::{Store, StoreError};

/// The mapping table of a store, and its revision from before it was asked.
pub struct StoreMap<'a> {
    store: &'a Store,
    /// See [`Store::uscc_revision`].
    pub revision: u64,
}

impl<'a> StoreMap<'a> {
    /// The table as it is from now on.
    pub fn of(store: &'a Store) -> Result<Self, StoreError> {
        Ok(Self { store, revision: store.uscc_revision()? })
    }
}

impl UsccMap for StoreMap<'_> {
    fn look_up(&self, code: &LegacyCode, on: Date) -> Resolution {
        // What cannot be asked is not known: the row is held, which is no verdict.
        self.store.look_up_uscc(code, on).unwrap_or_else(|error| {
            tracing::error!(%error, "the mapping table could not be asked");
            Resolution::None
        })
    }
}
