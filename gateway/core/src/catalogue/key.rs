//! A record's natural key.

use super::Role;
use super::rules::is_short;
use crate::ident::{CitizenId, SENTINEL};
use crate::model::{Draft, RecordKey, Subject};
use crate::value::is_placeholder;

/// The record's natural key; `None` when the draft lacks what a key needs (then a rule has said so).
///
/// A placeholder ("空", "/") is never part of a key. A document number too short to tell documents
/// apart ("3") gives way to the licence number; without one it has to do, for subject, agency and
/// date stand beside it. How a number is typed makes no other record: see [`one_form`].
pub fn record_key(draft: &Draft) -> Option<RecordKey> {
    let agency = match given(draft, Role::AgencyCode) {
        Some(code) => code.to_ascii_uppercase(),
        None => given(draft, Role::AgencyName)?.to_owned(),
    };
    let licence = given(draft, Role::LicenceNumber);
    let document = match given(draft, Role::DocNumber) {
        Some(number) if is_short(number) => licence.unwrap_or(number),
        Some(number) => number,
        None => licence?,
    };
    Some(RecordKey {
        dataset: draft.dataset.id.clone(),
        agency,
        document: one_form(document),
        decided: draft.date(Role::DecisionDate)?,
        subject: subject(draft)?,
    })
}

/// A document number in one form: 〔2026〕, [2026], (2026) and 【2026】 are typed for each other, as are
/// full-width and ASCII letters, and spaces come and go. The record keeps what was written.
fn one_form(document: &str) -> String {
    let fold = |letter: char| match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0).unwrap_or(letter),
        letter => letter,
    };
    let letters = document.chars().filter(|letter| !letter.is_whitespace()).map(fold);
    letters
        .map(|letter| match letter {
            '[' | '(' | '【' | '﹝' | '〖' => '〔',
            ']' | ')' | '】' | '﹞' | '〗' => '〕',
            letter => letter.to_ascii_uppercase(),
        })
        .collect()
}

fn subject(draft: &Draft) -> Option<Subject> {
    match given(draft, Role::SubjectUscc) {
        // Shared by everybody without a code: the registration number has to tell them apart.
        Some(code) if code.eq_ignore_ascii_case(SENTINEL) => {
            let reg_no = given(draft, Role::SubjectRegNo)?;
            return Some(Subject::Code(format!("GS:{reg_no}")));
        }
        Some(code) => return Some(Subject::Code(code.to_ascii_uppercase())),
        None => {}
    }
    if let Some(number) = given(draft, Role::PersonIdNo) {
        let number = match CitizenId::parse(number) {
            Ok(id) => id.expose().to_owned(),
            Err(_) => number.to_ascii_uppercase(),
        };
        return Some(Subject::Person(number));
    }
    given(draft, Role::SubjectName).map(|name| Subject::Name(name.to_owned()))
}

fn given(draft: &Draft, role: Role) -> Option<&str> {
    draft.text(role).filter(|text| !is_placeholder(text))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{put, sample};
    use super::*;

    #[test]
    fn a_code_beats_a_person_beats_a_name() {
        let mut draft = sample("admin-penalty/2021");
        assert_eq!(
            record_key(&draft).unwrap().canonical(),
            "admin-penalty\u{1f}114117009999999049\u{1f}驿城管罚〔2026〕12号\u{1f}2026-03-02\
             \u{1f}c\u{1f}91411702999999904X"
        );
        put(&mut draft, "CF_XDR_SHXYM", "");
        assert!(matches!(record_key(&draft).unwrap().subject, Subject::Name(_)));
        put(&mut draft, "CF_XDR_ZJHM", "44052418800101001x");
        let Subject::Person(number) = record_key(&draft).unwrap().subject else { panic!() };
        assert_eq!(number, "44052418800101001X");
    }

    #[test]
    fn how_a_number_is_typed_makes_no_other_record() {
        let mut draft = sample("admin-penalty/2021");
        let mut key = |number: &str| {
            put(&mut draft, "CF_WSH", number);
            record_key(&draft).unwrap().document
        };
        let one = key("驿城管罚〔2026〕12号");
        for typed in [
            "驿城管罚[2026]12号",
            "驿城管罚(2026)12号",
            "驿城管罚【2026】12号",
            "驿城管罚［２０２６］１２号",
            "驿城管罚〔2026〕 12 号",
            "驿城管罚（2026）\u{3000}12号",
        ] {
            assert_eq!(key(typed), one, "{typed}");
        }
        assert_ne!(key("驿城管罚〔2026〕13号"), one);
        assert_ne!(key("驿城管罚2026〕12号"), one);
    }

    #[test]
    fn the_sentinel_is_never_a_key() {
        let mut draft = sample("admin-penalty/2021");
        put(&mut draft, "CF_XDR_SHXYM", "00000000000000000x");
        assert_eq!(record_key(&draft), None);
        put(&mut draft, "CF_XDR_GSZC", "411702000001236");
        let subject = record_key(&draft).unwrap().subject;
        assert_eq!(subject, Subject::Code("GS:411702000001236".to_owned()));
    }

    #[test]
    fn a_placeholder_is_no_document_number() {
        let mut draft = sample("admin-licence/2021");
        for number in ["空", "/", "3", ""] {
            put(&mut draft, "XK_WSH", number);
            put(&mut draft, "XK_XKBH", "许2026-0077");
            assert_eq!(record_key(&draft).unwrap().document, "许2026-0077", "{number}");
        }
        put(&mut draft, "XK_XKBH", "无");
        assert_eq!(record_key(&draft), None);
        put(&mut draft, "XK_WSH", "3");
        assert_eq!(record_key(&draft).unwrap().document, "3");
    }

    #[test]
    fn agency_by_code_else_by_name_and_no_key_without_a_date() {
        let mut draft = sample("admin-licence/2021");
        put(&mut draft, "XK_XKJGDM", "");
        assert_eq!(record_key(&draft).unwrap().agency, "驿城区测试审批局");
        put(&mut draft, "XK_JDRQ", "");
        assert_eq!(record_key(&draft), None);
    }
}
