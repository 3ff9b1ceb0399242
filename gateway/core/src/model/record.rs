//! A mapped record: one slot per field of its dataset.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::Date;

use crate::catalogue::{Dataset, Field, FieldIx, Role};
use crate::ident::Uscc;
use crate::ident::personal::mask;
use crate::value::{Amount, Unit};

/// A parsed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// Text, trimmed and free of control characters.
    Text(String),
    /// A calendar date.
    Date(Date),
    /// An amount in 万元 with six decimals.
    Amount(Amount),
}

/// The text a target receives: dates as `YYYY-MM-DD`, amounts with six decimals.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Date(date) => write!(f, "{date}"),
            Self::Amount(amount) => write!(f, "{amount}"),
        }
    }
}

/// A field's place in a [`Draft`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slot {
    /// The value; `None` if the source had none, or it could not be parsed.
    pub value: Option<Value>,
    /// The source column it came from, or would have: an empty cell keeps its place. `None` for
    /// constants, derived values, and fields none of whose columns the source has.
    pub column: Option<u16>,
    /// That column's heading as the mapping writes it, where columns have headings: the name the
    /// agency knows the field by.
    pub heading: Option<Arc<str>>,
    /// The unit amounts of that column are in, so that advice can be given in it.
    pub unit: Option<Unit>,
    /// A finding has been raised on this field already: later rules must not add "missing".
    pub failed: bool,
    /// The value was derived, not reported (e.g. an amount read out of free text).
    pub derived: bool,
}

impl Slot {
    /// What to call the field before the agency: by its own heading where that is known.
    pub fn label<'a>(&'a self, field: &'a Field) -> &'a str {
        self.heading.as_deref().unwrap_or(&field.name)
    }
}

/// What a row asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Publish, or correct what was published.
    #[default]
    Upsert,
    /// Take down (撤销): a tombstone that every receiver must hear of.
    Withdraw,
}

/// A record on its way from a row to the store: one slot per field of `dataset`.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The dataset whose fields the slots are.
    pub dataset: Arc<Dataset>,
    /// Slots in the order of `dataset.fields`.
    pub slots: Vec<Slot>,
    /// Publish or take down.
    pub operation: Operation,
}

impl Draft {
    /// Every slot empty.
    pub fn new(dataset: Arc<Dataset>) -> Self {
        let slots = vec![Slot::default(); dataset.fields.len()];
        Self { dataset, slots, operation: Operation::Upsert }
    }

    /// Empties every slot, keeping the buffers.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| *slot = Slot::default());
        self.operation = Operation::Upsert;
    }

    /// The slot of a field.
    pub fn slot(&self, field: FieldIx) -> Option<&Slot> {
        self.slots.get(usize::from(field.0))
    }

    /// The value of the field that plays `role`, if the dataset has one and it is filled.
    pub fn value(&self, role: Role) -> Option<&Value> {
        self.slot(self.dataset.role(role)?)?.value.as_ref()
    }

    /// The text in `role`; `None` if it is empty or not text.
    pub fn text(&self, role: Role) -> Option<&str> {
        match self.value(role)? {
            Value::Text(text) => Some(text),
            Value::Date(_) | Value::Amount(_) => None,
        }
    }

    /// The date in `role`.
    pub fn date(&self, role: Role) -> Option<Date> {
        match self.value(role)? {
            Value::Date(date) => Some(*date),
            Value::Text(_) | Value::Amount(_) => None,
        }
    }

    /// The amount in `role`.
    pub fn amount(&self, role: Role) -> Option<Amount> {
        match self.value(role)? {
            Value::Amount(amount) => Some(*amount),
            Value::Text(_) | Value::Date(_) => None,
        }
    }
}

/// Whom a record is about, as far as its key needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An organisation or sole trader by a public code.
    Code(String),
    /// A natural person by a personal number. Only ever leaves this type as a keyed digest.
    Person(String),
    /// Nobody gave a code; the name has to do.
    Name(String),
}

/// The natural key of a record: subject + agency + document number + decision date + dataset.
/// A document number alone is not unique ("空", "3"), and the sentinel code is never a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKey {
    /// Which dataset; generations of one dataset share keys.
    pub dataset: crate::model::DatasetId,
    /// The deciding agency's code, or its name where no code was given.
    pub agency: String,
    /// The document number, or the licence number standing in for it.
    pub document: String,
    /// The decision date.
    pub decided: Date,
    /// Whom it is about.
    pub subject: Subject,
}

impl RecordKey {
    /// The bytes whose keyed digest identifies the record, for storage and idempotency. Contains
    /// a personal number for natural persons: digest it, never store or show it.
    ///
    /// Layout: `dataset, agency, document, decided as YYYY-MM-DD, subject kind (c|p|n), subject`,
    /// separated by U+001F.
    pub fn canonical(&self) -> String {
        let (kind, subject) = match &self.subject {
            Subject::Code(code) => ('c', code),
            Subject::Person(number) => ('p', number),
            Subject::Name(name) => ('n', name),
        };
        format!(
            "{}\u{1f}{}\u{1f}{}\u{1f}{}\u{1f}{kind}\u{1f}{subject}",
            self.dataset, self.agency, self.document, self.decided
        )
    }

    /// For people: the parts that may be shown, joined by `/`. A person shows as `自然人`, any other
    /// subject without a public code as `***`; `mark` (where the row stands) is added if anything
    /// was hidden, so that two records look like two.
    pub fn shown(&self, today: Date, mark: &str) -> String {
        let agency = mask(&self.agency, today);
        let document = mask(&self.document, today);
        let (subject, told) = match &self.subject {
            Subject::Code(code) if is_public_code(code, today) => (code.as_str(), true),
            Subject::Person(_) => ("自然人", false),
            Subject::Code(_) | Subject::Name(_) => ("***", false),
        };
        let whole = matches!((&agency, &document), (Cow::Borrowed(_), Cow::Borrowed(_)));
        let mark = if told && whole { "" } else { mark };
        format!("{agency}/{document}/{}/{subject}{mark}", self.decided)
    }
}

/// Whether a subject's code is one: it may as well be whatever stood in a shifted column.
fn is_public_code(code: &str, today: Date) -> bool {
    let public = match code.strip_prefix("GS:") {
        Some(reg_no) => {
            matches!(reg_no.len(), 13 | 15) && reg_no.bytes().all(|b| b.is_ascii_digit())
        }
        None => Uscc::parse(code).is_ok(),
    };
    public && matches!(mask(code, today), Cow::Borrowed(_))
}
