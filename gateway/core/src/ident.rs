//! Identifiers with check digits. Each parses or says exactly what is wrong; none of the errors
//! repeats the number.

mod citizen;
mod legacy;
mod org_code;
pub mod personal;
mod reg_no;
mod uscc;

pub use citizen::{CitizenError, CitizenId};
pub use legacy::{EntryError, LegacyCode, LegacyKind, UsccEntry};
pub use org_code::{OrgCodeError, org_code_check};
pub use reg_no::{RegNoError, check_reg_no};
pub use uscc::{SENTINEL, Uscc, UsccError, UsccWarning};
