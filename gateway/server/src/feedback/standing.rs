//! How a row stands, in the words of its agency.

use xinqiao_core::spi::Standing;
use xinqiao_store::{ItemState, RowOutcome, RowVerdictView};

/// How a row stands. What was given up by a person is refused; what could not be delivered waits
/// for a person.
pub(crate) fn standing(row: &RowVerdictView) -> Standing {
    let mut states = row.delivery.iter().map(|(_, state)| *state);
    let any = |wanted: &[ItemState]| row.delivery.iter().any(|(_, is)| wanted.contains(is));
    if row.outcome == RowOutcome::Rejected || any(&[ItemState::Refused, ItemState::Dropped]) {
        Standing::Refused
    } else if row.outcome == RowOutcome::Held || any(&[ItemState::Dead]) {
        Standing::Held
    } else if row.outcome == RowOutcome::Mapped {
        Standing::Accepted
    } else if states.all(|state| state == ItemState::Done)
        && (!row.delivery.is_empty() || row.met.is_some())
    {
        // Without deliveries of its own, a newer version has taken its place.
        Standing::Accepted
    } else {
        Standing::Taken
    }
}

/// What the platform said, or why it has not (平台答复); by target if there are several.
pub(crate) fn answer(row: &RowVerdictView) -> String {
    match row.delivery.as_slice() {
        [] if matches!(row.outcome, RowOutcome::Rejected | RowOutcome::Held) => "未投递".to_owned(),
        [] if row.outcome == RowOutcome::Mapped => "已列入对照表".to_owned(),
        [] => "已由更新的报送取代".to_owned(),
        [(_, state)] => said(*state).to_owned(),
        many => {
            let each = many.iter().map(|(target, state)| format!("{target}:{}", said(*state)));
            each.collect::<Vec<_>>().join(";")
        }
    }
}

/// Why a row stands as it does; empty for one that nothing is to be said of.
pub(crate) fn reason(row: &RowVerdictView) -> String {
    let finding = |finding: &xinqiao_core::model::Finding| {
        let cell = finding.cell.as_ref().map(|cell| format!("{cell}:")).unwrap_or_default();
        format!("{cell}{}。改法:{}", finding.message, finding.fix)
    };
    let given_up = |(_, state): &&(_, ItemState)| is_given_up(*state);
    let stuck = row.delivery.iter().find(given_up).map(|(_, state)| said(*state).to_owned());
    let all: Vec<String> = row.findings.iter().map(finding).chain(stuck).collect();
    super::clean(&all.join(";"))
}

/// Never to be delivered, or not by itself.
pub(crate) fn is_given_up(state: ItemState) -> bool {
    matches!(state, ItemState::Dead | ItemState::Dropped)
}

fn said(state: ItemState) -> &'static str {
    match state {
        ItemState::Ready | ItemState::Waiting | ItemState::Leased | ItemState::Held => "待受理",
        ItemState::Done => "已受理",
        ItemState::Refused => "拒收",
        ItemState::Dead => "投递未成,由网关运维人员处理",
        ItemState::Dropped => "网关运维人员已放弃投递,请与其联系",
    }
}
