//! From one generation to another.
//!
//! Fields are carried by role, then by code. What 2016 says differently is dealt with one by one
//! below; what cannot be carried over truthfully becomes a finding, never a guess.

use std::sync::Arc;

use super::rules::category::{ORG, PERSON, SOLE};
use super::rules::{check_provenance, drop_legal_rep_id, fine_in_text, raised, set};
use super::{CheckContext, Dataset, FieldIx, FieldKind, Generation, Role};
use crate::ident::{CitizenError, CitizenId, SENTINEL};
use crate::model::{Draft, Finding, Operation, Slot, Value};
use crate::value::is_placeholder;

/// Converts a draft of an older generation to `to` (same dataset). What cannot be carried over
/// truthfully becomes a finding, never a guess. Returns the draft unchanged if it is of `to`
/// already, and unchanged with an error if `to` is older or another dataset.
///
/// Findings name the field of the draft as it came, so that the agency knows it again.
pub fn convert(
    mut old: Draft,
    to: &Arc<Dataset>,
    context: &CheckContext,
    findings: &mut Vec<Finding>,
) -> Draft {
    let from = &old.dataset;
    if from.id == to.id && from.generation == to.generation {
        return old;
    }
    if from.id != to.id || from.generation > to.generation {
        let message = format!("不能由{}转换到{}", from.reference(), to.reference());
        findings.push(raised::CONVERT_UNSUPPORTED.finding(None, None, message));
        return old;
    }
    let mut new = Draft::new(Arc::clone(to));
    new.operation = old.operation;
    if old.dataset.generation <= Generation(2016) {
        status(&mut old, &mut new, findings);
        if new.operation == Operation::Upsert {
            check_provenance(&mut old, context, findings);
        }
        use_scope(&mut old, findings);
        penalty_categories(&mut old);
        let category = category(&mut old, &mut new, findings);
        mixed_id(&mut old, &mut new, category, findings);
        carry(&mut old, &mut new);
        violation_type(&mut old, &mut new, findings);
        fine(&mut new, findings);
        validity(&mut new);
        tax_no(&mut new, findings);
    } else {
        drop_legal_rep_id(&mut old, Role::LegalRepIdNo, findings);
        carry(&mut old, &mut new);
        sole_trader(&mut new);
    }
    new
}

/// Moves every slot that has a place in `new`, unless that place is taken.
fn carry(old: &mut Draft, new: &mut Draft) {
    for (field, slot) in old.dataset.fields.iter().zip(&mut old.slots) {
        let target = match field.role {
            Some(role) => new.dataset.role(role),
            None => new.dataset.find(&field.code),
        };
        if let Some(place) = target.and_then(|ix| new.slots.get_mut(usize::from(ix.0)))
            && *place == Slot::default()
        {
            *place = std::mem::take(slot);
        }
    }
}

/// 2016: 0 or blank 正常, 1 撤销, 2 异议, 3 其他. Later: 1 有效, 2 无效: copying the digit would
/// publish what was revoked. 异议 leaves a decision standing until the objection is upheld, so it
/// goes on as valid with a warning; 其他 is explained in the remark, which no program reads.
fn status(old: &mut Draft, new: &mut Draft, findings: &mut Vec<Finding>) {
    let text = resolved(old, Role::Status).filter(|text| !is_placeholder(text));
    let status = match text.as_deref() {
        None | Some("0") => "1",
        Some("1") => {
            new.operation = Operation::Withdraw;
            "2"
        }
        Some("2") => {
            let message = "2016版状态为2(异议):按1(有效)报送";
            raised::CONVERT_STATUS_DISPUTED.raise(old, Role::Status, message, findings);
            "1"
        }
        Some(_) => {
            let message = "2016版状态为3(其他)或不在代码集内,无法对应有效或无效";
            raised::CONVERT_STATUS_UNKNOWN.raise(old, Role::Status, message, findings);
            if let Some(slot) = slot_mut(new, Role::Status) {
                slot.failed = true;
            }
            return;
        }
    };
    let column = slot_mut(old, Role::Status).and_then(|slot| slot.column);
    put(new, Role::Status, Value::Text(status.to_owned()), column);
}

/// 1 仅政府共享, 2 授权查询: the platform publishes, so the record stays here.
fn use_scope(old: &mut Draft, findings: &mut Vec<Finding>) {
    if matches!(resolved(old, Role::UseScope).as_deref(), Some("1" | "2")) {
        let message = "使用范围为仅限共享或授权查询,不得公示";
        raised::SCOPE_RESTRICTED_USE.raise(old, Role::UseScope, message, findings);
    }
}

/// Two columns become one value joined by `;`. An empty first one takes the second's place.
fn penalty_categories(old: &mut Draft) {
    let Some(second) = resolved(old, Role::PenaltyCategory2).filter(|t| !is_placeholder(t)) else {
        return;
    };
    let joined = match old.text(Role::PenaltyCategory) {
        Some(first) => format!("{first};{second}"),
        None => second,
    };
    set(old, Role::PenaltyCategory, Some(Value::Text(joined)));
}

/// 2016 has no category of its own. A mapping may give one; else only codes tell it, and not every
/// code: organisations and sole traders alike have a 工商注册号 and a 税务登记号. A name never does,
/// however short.
///
/// A sole trader who is said to be one and has only a 工商注册号 gets the placeholder code that
/// later generations want there.
fn category(old: &mut Draft, new: &mut Draft, findings: &mut Vec<Finding>) -> Option<&'static str> {
    let given = |role| old.text(role).filter(|text| !is_placeholder(text));
    let stated = resolved(old, Role::SubjectCategory).filter(|text| !is_placeholder(text));
    let category = match (stated.as_deref(), given(Role::SubjectUscc)) {
        (Some(stated), code) => {
            // What the set does not know goes on as written, for its rule to refuse.
            let known = [ORG, PERSON, SOLE].into_iter().find(|known| *known == stated)?;
            let reg_no = given(Role::SubjectRegNo).is_some();
            if known == SOLE && code.is_none() && reg_no {
                put(new, Role::SubjectUscc, Value::Text(SENTINEL.to_owned()), None);
            }
            known
        }
        (None, Some(code)) if code.starts_with("92") => SOLE,
        (None, Some(code)) if code.eq_ignore_ascii_case(SENTINEL) => SOLE,
        (None, Some(_)) => ORG,
        (None, None) if given(Role::SubjectOrgCode).is_some() => ORG,
        (None, None) if given(Role::SubjectRegNo).is_some() => {
            let message = "只有工商注册号,无法判定是单位还是个体工商户";
            return unknown_category(old, new, message, findings);
        }
        (None, None) if given(Role::SubjectTaxNo).is_some() => {
            let message = "只有税务登记号,无法判定是单位还是个体工商户";
            return unknown_category(old, new, message, findings);
        }
        (None, None) if given(Role::SubjectMixedId).is_some() => PERSON,
        (None, None) => {
            let message = "没有任何主体代码,无法判定是单位还是自然人";
            return unknown_category(old, new, message, findings);
        }
    };
    // 2018 knows no sole traders: its code set says what they were called then.
    let set = new.dataset.role(Role::SubjectCategory).and_then(|ix| code_set(&new.dataset, ix));
    let written = set.and_then(|set| set.resolve(category)).map_or(category.into(), |text| text);
    let written = Value::Text(written.into_owned());
    put(new, Role::SubjectCategory, written, None);
    Some(category)
}

/// Refuses the row. A code that could not be read has its own finding; a takedown needs no category.
fn unknown_category(
    old: &mut Draft,
    new: &mut Draft,
    message: &str,
    findings: &mut Vec<Finding>,
) -> Option<&'static str> {
    const CODES: [Role; 5] = [
        Role::SubjectUscc,
        Role::SubjectOrgCode,
        Role::SubjectRegNo,
        Role::SubjectTaxNo,
        Role::SubjectMixedId,
    ];
    let failed = CODES.iter().any(|role| slot_mut(old, *role).is_some_and(|slot| slot.failed));
    if !failed && new.operation == Operation::Upsert {
        raised::CONVERT_CATEGORY_UNKNOWN.raise(old, Role::SubjectUscc, message, findings);
    }
    if let Some(slot) = slot_mut(new, Role::SubjectCategory) {
        slot.failed = true;
    }
    None
}

/// 2016 keeps one column for a person's own number and for a legal representative's. The first
/// moves, the second is dropped: taking one for the other would publish a number.
fn mixed_id(old: &mut Draft, new: &mut Draft, category: Option<&str>, findings: &mut Vec<Finding>) {
    match category {
        Some(PERSON) => {}
        Some(_) => return drop_legal_rep_id(old, Role::SubjectMixedId, findings),
        None => return,
    }
    // Passports stood here as well; what has the shape of a citizen number is one, and is checked
    // as one. Of anything else the kind is unknown and will be asked for.
    let citizen = old.text(Role::SubjectMixedId).is_some_and(|text| {
        !matches!(CitizenId::parse(text), Err(CitizenError::Length | CitizenError::Character(_)))
    });
    let slot = slot_mut(old, Role::SubjectMixedId).map(std::mem::take);
    if let (Some(slot), Some(place)) = (slot, slot_mut(new, Role::PersonIdNo)) {
        *place = slot;
    }
    if citizen {
        put(new, Role::PersonIdType, Value::Text("身份证".to_owned()), None);
    }
}

/// 处罚名称 is the nearest 2016 has to 违法行为类型. It is the agency's own text, so it goes on,
/// and the agency is told to look at it.
fn violation_type(old: &mut Draft, new: &mut Draft, findings: &mut Vec<Finding>) {
    let missing =
        slot_mut(new, Role::ViolationType).is_some_and(|slot| slot.value.is_none() && !slot.failed);
    let Some(Value::Text(title)) = old.value(Role::DocTitle).filter(|_| missing) else { return };
    let title = Value::Text(title.clone());
    let message = "没有单独的违法行为类型,已用处罚名称代替";
    raised::CONVERT_VIOLATION_TYPE.raise(old, Role::DocTitle, message, findings);
    let column = slot_mut(old, Role::DocTitle).and_then(|slot| slot.column);
    put(new, Role::ViolationType, title, column);
}

/// 2016 has the fine in free text only. Taken from there if it can be read in one way.
fn fine(new: &mut Draft, findings: &mut Vec<Finding>) {
    let missing =
        slot_mut(new, Role::FineAmount).is_some_and(|slot| slot.value.is_none() && !slot.failed);
    let fined = new.text(Role::PenaltyCategory).is_some_and(|text| text.contains("罚款"));
    let amount = new.text(Role::Content).filter(|_| missing && fined).and_then(fine_in_text);
    if let Some(amount) = amount {
        let column = slot_mut(new, Role::Content).and_then(|slot| slot.column);
        put(new, Role::FineAmount, Value::Amount(amount), column);
        let message = "罚款金额由处罚结果中的文字得出";
        raised::CONVERT_AMOUNT_DERIVED.raise(new, Role::FineAmount, message, findings);
    }
}

/// 2016 gives only an end: by its own rules a licence runs from its decision. Marked as derived;
/// no warning, for it would stand on every row of the generation and hide the others.
fn validity(new: &mut Draft) {
    let missing =
        slot_mut(new, Role::ValidFrom).is_some_and(|slot| slot.value.is_none() && !slot.failed);
    if let Some(decided) = new.date(Role::DecisionDate).filter(|_| missing) {
        put(new, Role::ValidFrom, Value::Date(decided), None);
    }
}

/// Longer tax numbers hold a citizen number (18) or one with a suffix (20): nobody needs them.
fn tax_no(new: &mut Draft, findings: &mut Vec<Finding>) {
    let max =
        new.dataset.role(Role::SubjectTaxNo).and_then(|ix| new.dataset.field(ix)).map(|field| {
            match field.kind {
                FieldKind::Text { max } => max as usize,
                _ => usize::MAX,
            }
        });
    let length = new.text(Role::SubjectTaxNo).map(|text| text.chars().count());
    if length > max {
        let message = "税务登记号超出15位,已略去";
        raised::CONVERT_TAX_NO_DROPPED.raise(new, Role::SubjectTaxNo, message, findings);
        set(new, Role::SubjectTaxNo, None);
    }
}

/// 2018 reported sole traders as organisations; since 2021 they are a category, told by the code.
fn sole_trader(new: &mut Draft) {
    let knows_sole = new
        .dataset
        .role(Role::SubjectCategory)
        .and_then(|ix| code_set(&new.dataset, ix))
        .is_some_and(|set| set.values.contains_key(SOLE));
    let is_sole = new
        .text(Role::SubjectUscc)
        .is_some_and(|code| code.starts_with("92") || code.eq_ignore_ascii_case(SENTINEL));
    if knows_sole && is_sole && resolved(new, Role::SubjectCategory).as_deref() == Some(ORG) {
        let column = slot_mut(new, Role::SubjectCategory).and_then(|slot| slot.column);
        put(new, Role::SubjectCategory, Value::Text(SOLE.to_owned()), column);
    }
}

/// Sets a derived value.
fn put(draft: &mut Draft, role: Role, value: Value, column: Option<u16>) {
    if let Some(slot) = slot_mut(draft, role) {
        let failed = slot.failed;
        *slot = Slot { value: Some(value), column, failed, derived: true, ..Slot::default() };
    }
}

fn slot_mut(draft: &mut Draft, role: Role) -> Option<&mut Slot> {
    let ix = draft.dataset.role(role)?;
    draft.slots.get_mut(usize::from(ix.0))
}

fn code_set(dataset: &Dataset, ix: FieldIx) -> Option<&super::CodeSet> {
    match &dataset.field(ix)?.kind {
        FieldKind::Code { set, .. } => Some(set),
        _ => None,
    }
}

/// The text in `role` as its code set means it; as it stands if the set does not know it.
pub(super) fn resolved(draft: &Draft, role: Role) -> Option<String> {
    let text = draft.text(role)?;
    let set = code_set(&draft.dataset, draft.dataset.role(role)?);
    let resolved = set.and_then(|set| set.resolve(text));
    Some(resolved.map_or_else(|| text.to_owned(), |text| text.into_owned()))
}

#[cfg(test)]
mod tests;
