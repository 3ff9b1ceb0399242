//! No personal number shows, wherever in a message it stands and however it is typed; numbers that
//! tell rows apart do.

use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::Value;
use time::macros::date;
use xinqiao_core::catalogue::Sensitivity;
use xinqiao_core::ident::CitizenId;
use xinqiao_core::model::{AgencyId, FeedId, MappingId, Timestamp};
use xinqiao_core::spi::{Arrival, Clock, Inbox as _};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_store::{MessageEnd, StorageKey, Store, StoreOptions};

use super::*;

const TODAY: Date = date!(2026 - 11 - 23);

static DOMAIN: LazyLock<Domain> = LazyLock::new(|| {
    Domain::load(crate::domain::bundle(None).unwrap()).unwrap_or_else(|e| panic!("{e}"))
});

/// Shipped samples with a mapping each.
const SAMPLES: &[(&str, &str)] = &[
    ("yjj-admin-licence", include_str!("../../../../mappings/agencies/yjj/sample.ndjson")),
    ("jtj-admin-penalty", include_str!("../../../../mappings/agencies/jtj/sample.json")),
    ("zjj-admin-licence", include_str!("../../../../mappings/agencies/zjj/sample.xml")),
];

/// Everything shown of each row, as text, and the values that would be published.
fn run(mapping: &str, text: String) -> (Vec<String>, Vec<String>) {
    let mapping = &DOMAIN.mappings[&MappingId::new(mapping).unwrap()].1;
    let job = Job::dry(mapping, &DOMAIN, TODAY);
    let target = DOMAIN.catalogue.in_force(&mapping.target.id, TODAY).unwrap();
    let (mut shown, mut public) = (Vec::new(), Vec::new());
    let outcome = process(&job, &mut Cursor::new(text.into_bytes()), &mut |row| {
        shown.push(format!(
            "{:?} {:?} {:?} {}",
            row.place,
            row.document,
            row.key,
            serde_json::to_string(&row.findings).unwrap()
        ));
        for (code, value) in row.record.into_iter().flat_map(|record| record.fields) {
            let field = target.find(&code).and_then(|ix| target.field(ix)).unwrap();
            if field.sensitivity == Sensitivity::Public {
                public.push(value);
            }
        }
        ControlFlow::Continue(())
    });
    let MessageEnd { error, notes } = message_end(outcome, TODAY);
    shown.push(format!("{error:?} {notes:?}"));
    (shown, public)
}

/// The sample with `text` put in one of its values: the `at`th, counted round.
fn planted(sample: &str, at: usize, text: &str) -> String {
    if sample.starts_with('<') {
        let ends: Vec<_> = sample.match_indices("</").map(|(i, _)| i).collect();
        let end = ends[at % ends.len()];
        let (before, after) = sample.split_at(end);
        let (before, _) = before.rsplit_once('>').unwrap();
        return format!("{before}>{text}{after}");
    }
    let mut values: Vec<Value> =
        serde_json::Deserializer::from_str(sample).into_iter().map(Result::unwrap).collect();
    let mut all = 0;
    values.iter_mut().for_each(|value| leaves(value, &mut |_| all += 1));
    let mut next = 0;
    values.iter_mut().for_each(|value| {
        leaves(value, &mut |leaf| {
            if next == at % all {
                *leaf = Value::String(text.to_owned());
            }
            next += 1;
        });
    });
    values.iter().map(|value| format!("{value}\n")).collect()
}

fn leaves(value: &mut Value, each: &mut dyn FnMut(&mut Value)) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| leaves(value, each)),
        Value::Object(members) => members.values_mut().for_each(|value| leaves(value, each)),
        leaf => each(leaf),
    }
}

/// A citizen number of a grown-up, the check digit right.
fn citizen() -> impl Strategy<Value = String> {
    let province = prop::sample::select(vec!["11", "41", "51", "52", "13"]);
    (province, "[0-9]{4}(19[3-9][0-9]|200[0-9])(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])[0-9]{3}")
        .prop_map(|(province, rest)| {
            let all = "0123456789X".chars().map(|check| format!("{province}{rest}{check}"));
            all.into_iter().find(|text| CitizenId::parse(text).is_ok()).unwrap()
        })
}

/// `number` as people type it, or not.
fn disguised(number: &str, between: &[&str], wide: bool) -> String {
    let full = |c: char| char::from_u32(u32::from(c) + 0xFEE0).unwrap();
    let letters = number.chars().zip(between.iter().cycle());
    letters.map(|(c, between)| format!("{}{between}", if wide { full(c) } else { c })).collect()
}

/// Digits and X as a reader would copy them.
fn read(text: &str) -> String {
    let half = |c: char| match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap(),
        c => c.to_ascii_uppercase(),
    };
    text.chars().map(half).filter(|c| c.is_ascii_digit() || *c == 'X').collect()
}

fn between() -> impl Strategy<Value = Vec<&'static str>> {
    let signs = vec!["", "", "", " ", "-", ".", "\u{A0}", "\u{200B}", "\u{3000}"];
    prop::collection::vec(prop::sample::select(signs), 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_number_planted_in_a_message_shows_or_is_published(
        sample in 0..SAMPLES.len(),
        at in any::<usize>(),
        number in citizen(),
        between in between(),
        wide in any::<bool>(),
        (before, after) in prop::sample::select(vec![("", ""), ("", ""), ("张某(", ")"), ("证件号码:", "。")]),
    ) {
        let (mapping, sample) = SAMPLES[sample];
        let text = format!("{before}{}{after}", disguised(&number, &between, wide));
        let (shown, public) = run(mapping, planted(sample, at, &text));
        prop_assert!(shown.len() > 10, "{shown:?}");
        for text in shown.iter().chain(&public) {
            prop_assert!(!read(text).contains(&number), "{text}");
        }
    }
}

#[test]
fn documents_and_keys_of_the_samples_are_readable_and_tell_rows_apart() {
    for (mapping, sample) in SAMPLES {
        let (shown, _) = run(mapping, (*sample).to_owned());
        let masked: Vec<_> = shown.iter().filter(|row| row.contains("***/")).collect();
        assert!(masked.is_empty(), "{mapping}: {masked:?}");
    }
    // Two construction permits of one day: the numbers stay.
    let permit = "411702202611120101";
    let (shown, _) = run("yjj-admin-licence", SAMPLES[0].1.replace("驻应急许〔2026〕86号", permit));
    assert!(shown[0].contains(&format!("Some(\"{permit}\")")), "{}", shown[0]);
    assert!(shown[0].contains(&format!("/{permit}/")), "{}", shown[0]);
}

#[test]
fn what_is_hidden_is_told_apart_by_its_row() {
    let person = "11010519491231002X";
    let text = SAMPLES[0]
        .1
        .replace("驻应急许〔2026〕86号", person)
        .replace("驻应急许〔2026〕87号", person);
    let (shown, _) = run("yjj-admin-licence", text);
    for (row, mark) in shown.iter().zip(["***#1", "***#2"]) {
        assert!(row.contains(&format!("Some(\"{mark}\")")), "{row}");
        assert!(row.contains("person.number-in-public-field"), "{row}");
    }
    // Whatever stands in the code's place and is none.
    let code = "914117259999998672";
    assert!(run("yjj-admin-licence", SAMPLES[0].1.to_owned()).0[0].contains(&format!("/{code}\"")));
    for other in ["E12345678", "13800138000", "411702199001010788", "张某"] {
        let (shown, _) = run("yjj-admin-licence", SAMPLES[0].1.replace(code, other));
        assert!(shown[0].contains("/***#1\""), "{}", shown[0]);
        assert!(!shown[0].contains(other), "{}", shown[0]);
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_406_400_000)
    }
}

/// [`FeedInbox`] is what every pulling source gives its files to.
#[test]
fn names_of_files_are_stored_without_personal_numbers() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { reserve_bytes: 0, ..StoreOptions::default() };
    let key = StorageKey::held(PrivateKey::generate().unwrap());
    let store = Store::open(&folder.path().join("store"), options, Arc::new(Fixed), key).unwrap();
    let inbox = FeedInbox {
        feed: FeedId::new("feed").unwrap(),
        agency: AgencyId::new("agency").unwrap(),
        max_bytes: 100,
        in_order: false,
        store: store.clone(),
        progress: Arc::default(),
        clock: Arc::new(Fixed),
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(30));
    let planted = (citizen(), between(), any::<bool>());
    runner
        .run(&planted, |(number, between, wide)| {
            let name = format!("张某_{}_.csv", disguised(&number, &between, wide));
            inbox.progress(Ok(&format!("已取 {name}")));
            let body = futures_util::stream::iter([Ok(number.clone().into_bytes().into())]);
            let arrival = Arrival { name: Some(name), body: Box::pin(body), cursor: None };
            runtime
                .block_on(inbox.receive(arrival))
                .map_err(|e| TestCaseError::fail(e.to_string()))?;
            let stored = store.messages(None, None, None, 1).unwrap().remove(0).name.unwrap();
            prop_assert!(
                stored.contains("张某_***") && !read(&stored).contains(&number),
                "{stored}"
            );
            let note = inbox.progress.get(&inbox.feed).and_then(|word| word.note).unwrap();
            prop_assert!(note.contains("***") && !read(&note).contains(&number), "{note}");
            Ok(())
        })
        .unwrap();
    drop(inbox);
}
