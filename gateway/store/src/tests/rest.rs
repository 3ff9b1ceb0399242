//! What lies on the disk: nothing readable, nothing that can be changed unnoticed, keys that turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, SeekFrom};
use std::path::Path;

use xinqiao_core::model::{Dimension, Finding, Severity};
use xinqiao_crypto::keystore::{FileKeyStore, KeyFolder, KeyUse};

use super::*;
use crate::seal::Seals;

/// What must not be found. All invented.
const NUMBER: &str = "990101199001019990";
const NAME: &str = "虚构某人甲";
const DOCUMENT: &str = "虚构罚字〔2026〕第90001号";
const TEXT: &str = "擅自在虚构路口堆放虚构建材";
const FILE: &str = "虚构某人甲-处罚决定.csv";
const NEEDLES: [&str; 5] = [NUMBER, NAME, DOCUMENT, TEXT, FILE];

/// As an agency's system would write it.
fn forms(text: &str) -> [Vec<u8>; 3] {
    let wide = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [text.as_bytes().to_vec(), encoding_rs::GB18030.encode(text).0.into_owned(), wide]
}

/// Every needle that some file under `dir` holds in some form.
fn found(dir: &Path, needles: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().as_bytes().to_vec();
            let bytes = [name, std::fs::read(&path).unwrap()].concat();
            for (form, needle) in
                needles.iter().flat_map(|n| forms(n).into_iter().enumerate().map(move |f| (f, n)))
            {
                if memchr::memmem::find(&bytes, &form.1).is_some() {
                    found.insert(format!("{needle}/{}", form.0));
                }
            }
        }
    }
    found
}

fn secrets() -> String {
    NEEDLES.join(",")
}

fn telling(document: &str) -> NewVersion {
    let mut version = upsert(document, TEXT);
    version.key.subject = Subject::Person(NUMBER.to_owned());
    version.fields.push((Arc::from("CF_XDR_MC"), NAME.to_owned()));
    version.fields.push((Arc::from("CF_XDR_ZJ"), NUMBER.to_owned()));
    version
}

/// Through everything the store is used for.
fn fill(bench: &Bench) {
    let secrets = secrets();
    for form in forms(&format!("{secrets}\n")) {
        let long = form.repeat(70_000 / form.len() + 1);
        for body in [form, long] {
            let arrival = Arrival {
                name: Some(FILE.to_owned()),
                cursor: Some(FILE.as_bytes().to_vec()),
                ..arrival(&body)
            };
            bench.run(bench.store().receive(&feed("f-1"), &agency(), arrival, 1 << 20)).unwrap();
        }
    }
    let finding = Finding {
        rule: "test".into(),
        severity: Severity::Warning,
        dimension: Dimension::Conformity,
        field: None,
        column: None,
        cell: Some(NAME.to_owned()),
        message: secrets.clone(),
        fix: secrets.clone(),
    };
    for (document, end) in [
        (DOCUMENT, SettledAs::Refused { code: NUMBER.to_owned(), message: secrets.clone() }),
        ("2", SettledAs::Dead { error: secrets.clone() }),
    ] {
        let message = bench.receive("f-1", document.as_bytes()).message;
        let rows = vec![RowEntry { findings: vec![finding.clone()], ..entry(telling(document)) }];
        let told = Some((NUMBER.to_owned(), secrets.clone()));
        let finish = Some(MessageEnd { error: told, notes: vec![secrets.clone()] });
        let chunk = RowChunk { message, first: 0, rows, finish };
        bench.run(bench.store().commit_rows(vec![chunk])).unwrap();
        assert!(bench.settle(bench.lease()[0].token, end));
    }
    let again = bench.store().act(vec![2], QueueAct::Retry, NAME.to_owned(), secrets);
    bench.run(again).unwrap()[0].clone().unwrap();
}

#[test]
fn nothing_stands_in_the_clear() {
    let mut bench = Bench::new();
    fill(&bench);
    let dir = bench.dir.path().to_owned();
    assert_eq!(found(&dir, &NEEDLES), BTreeSet::new(), "while open");
    bench.reopen();
    bench.sound();
    assert_eq!(bench.store().messages(None, Some(FILE), None, 9).unwrap().len(), 6);
    bench.store = None;
    assert_eq!(found(&dir, &NEEDLES), BTreeSet::new());

    // The search does find what is there: names of tables, and each needle once it is in the clear.
    assert!(found(&dir, &["progress"]).contains("progress/0"));
    let plain: Vec<u8> = NEEDLES.iter().flat_map(|needle| forms(needle).concat()).collect();
    std::fs::write(dir.join("blobs").join("plain"), plain).unwrap();
    assert_eq!(found(&dir, &NEEDLES).len(), {
        let distinct: BTreeSet<_> = NEEDLES.iter().flat_map(|n| forms(n)).collect();
        // Digits are the same in UTF-8 and GB18030, and found as both.
        distinct.len() + 1
    });
}

#[test]
fn what_is_being_received_is_sealed_too() {
    let bench = Bench::new();
    let dir = bench.dir.path().to_owned();
    let body = Bytes::from(secrets().repeat(1_000));
    let length = 4 * body.len() as u64;
    let chunks = (0..4).map(move |n| {
        if n == 3 {
            let begun = std::fs::read_dir(dir.join("spool")).unwrap().next().unwrap().unwrap();
            // The last write may still be under way, and a chunk not yet full.
            assert!(begun.metadata().unwrap().len() > length / 4);
            assert_eq!(found(&dir, &NEEDLES), BTreeSet::new());
        }
        Ok(body.clone())
    });
    let body = Box::pin(futures_util::stream::iter(chunks));
    let arrival = Arrival { name: None, cursor: None, body };
    let receipt =
        bench.run(bench.store().receive(&feed("f-1"), &agency(), arrival, 1 << 30)).unwrap();
    assert_eq!(receipt.bytes, length);
    assert_eq!(bench.bytes(receipt.message).len() as u64, length);
}

#[test]
fn every_changed_bit_of_a_value_is_refused() {
    let (seals, sealed) = one_value();
    assert_eq!(seals.open("item", b"key", &sealed).unwrap(), TEXT.as_bytes());
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let opened = seals.open("item", b"key", &changed);
        assert!(matches!(opened, Err(StoreError::Damaged("item"))), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(seals.open("item", b"key", &sealed[..length]).is_err());
    }
    assert!(seals.open("item", b"kez", &sealed).is_err());
    assert!(seals.open("record", b"key", &sealed).is_err());
    let (others, _) = one_value();
    assert!(others.open("item", b"key", &sealed).is_err());
}

fn one_value() -> (Seals, Vec<u8>) {
    let seals = Seals::new(StorageKey::held(PrivateKey::generate().unwrap()));
    seals.load(None, Vec::new()).unwrap();
    let plain = [&[0; 12], TEXT.as_bytes()].concat();
    let sealed = seals.current().unwrap().seal("item", b"key", plain).unwrap();
    (seals, sealed)
}

#[test]
fn files_read_from_anywhere_and_every_change_is_refused() {
    let bench = Bench::new();
    let mut first = None;
    for length in [65_537, 131_071, 131_072, 131_073, 200_000] {
        let body: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
        let message = bench.receive("f-1", &body).message;
        assert_eq!(bench.bytes(message), body);
        let mut file = bench.store().payload(message).unwrap();
        for at in [0, 1, 65_535, 65_536, 65_537, body.len() - 1, body.len(), body.len() + 9] {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut rest = Vec::new();
            file.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, body.get(at..).unwrap_or_default());
        }
        assert_eq!(file.seek(SeekFrom::End(-7)).unwrap(), body.len() as u64 - 7);
        assert_eq!(file.seek(SeekFrom::Current(-1)).unwrap(), body.len() as u64 - 8);
        assert!(file.seek(SeekFrom::End(-1_000_000)).is_err());
        first = first.or(Some(message));
    }

    let message = first.unwrap();
    let path = bench.blob(message);
    let whole = std::fs::read(&path).unwrap();
    let refused = |changed: &[u8]| {
        std::fs::write(&path, changed).unwrap();
        let mut read = Vec::new();
        let opened = bench.store().payload(message);
        let read = opened.map(|mut file| file.read_to_end(&mut read).is_ok());
        !matches!(read, Ok(true))
    };
    assert!(!refused(&whole));
    let size = whole.len();
    // The head, both sides of the border between the chunks, the end, and places between.
    let border = 44 + (64 << 10);
    let places = (0..60).chain(border - 8..border + 40).chain(size - 40..size);
    for at in places.chain((0..size).step_by(4_999)) {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(refused(&changed), "byte {at}, bit {bit}");
        }
    }
    for cut in [0, 1, 43, 44, 60, border, border + 16, size - 17, size - 16, size - 1] {
        assert!(refused(&whole[..cut]), "cut at {cut}");
    }
    assert!(refused(&[whole.as_slice(), &[0]].concat()));
    assert!(refused(&[whole.as_slice(), &whole[44..]].concat()));
    std::fs::write(&path, &whole).unwrap();

    // Chunks in another order, and a whole file under another's name.
    let (a, b) = (bench.receive("f-1", &[1; 131_072]), bench.receive("f-1", &[2; 131_072]));
    let (a, b) = (bench.blob(a.message), bench.blob(b.message));
    let of_a = std::fs::read(&a).unwrap();
    let piece = (64 << 10) + 16;
    let (one, two) = (44..44 + piece, 44 + piece..44 + 2 * piece);
    let (head, tail) = (&of_a[..44], &of_a[44 + 2 * piece..]);
    bench.sound();
    std::fs::write(&b, [head, &of_a[two], &of_a[one], tail].concat()).unwrap();
    std::fs::write(&a, [head, &of_a[44..44 + 2 * piece], tail].concat()).unwrap();
    assert_eq!(bench.store().fsck().unwrap().len(), 1);
    std::fs::write(&a, &whole).unwrap();
    let lines = bench.store().fsck().unwrap();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("原文")), "{lines:?}");
    // Received again, a damaged file is whole again.
    assert!(bench.receive("f-1", &[1; 131_072]).duplicate);
    assert!(bench.receive("f-1", &[2; 131_072]).duplicate);
    bench.sound();
}

/// Does `work` to the tables as they lie on the disk.
fn tamper(bench: &Bench, work: impl FnOnce(&mut committer::Tx<'_>) + Send + 'static) {
    let work = move |tx: &mut committer::Tx<'_>| {
        tx.dirty = true;
        work(tx);
        Ok(())
    };
    bench.run(bench.store().shared.committer().unwrap().commit(0, work)).unwrap();
}

#[test]
fn swapped_values_do_not_open_and_stop_nothing_else() {
    let mut bench = Bench::new();
    for n in ["1", "2", "3", "4"] {
        bench.put(n, upsert(n, "a"));
    }
    let held = bench.lease();
    assert_eq!(held.len(), 4);
    assert!(bench.settle(held[0].token, SettledAs::Dead { error: String::new() }));
    bench.receive("f-1", b"damaged");
    let readable = bench.receive("f-1", b"readable").message;

    tamper(&bench, |tx| {
        let items = tx.tables.item.raw();
        tx.tables.item.put_sealed(&items[0].0, &items[1].1);
        tx.tables.item.put_sealed(&items[1].0, &items[0].1);
        let messages = tx.tables.message.raw();
        tx.tables.message.put_sealed(&messages[4].0, &messages[0].1);
    });
    // Leases of damaged items cannot be settled or given back; those of others can.
    let accepted = held.iter().map(|item| bench.settle(item.token, SettledAs::Accepted));
    assert_eq!(accepted.collect::<Vec<_>>(), [false, false, true, true]);
    bench.reopen();
    assert!(matches!(bench.act(1, QueueAct::Retry), Err(StoreError::Damaged("item"))));
    assert!(bench.lease().is_empty());
    let (views, _) = bench.store().items(&ItemFilter::default(), None, 9).unwrap();
    assert_eq!(views.iter().map(|item| item.id).collect::<Vec<_>>(), [3, 4]);
    let pending = bench.store().pending(1, &BTreeSet::new()).unwrap();
    assert_eq!(pending.iter().map(|message| message.id).collect::<Vec<_>>(), [readable]);
    assert_eq!(bench.store().messages(None, None, None, 9).unwrap().len(), 5);

    // What comes for a damaged record is told to the agency; what comes for others is taken.
    let mut rows = vec![entry(upsert("1", "b")), entry(upsert("3", "b"))];
    rows[0].row = 7;
    let message = bench.run(bench.store().begin_processing(vec![readable])).unwrap()[0].id;
    let done = bench.run(bench.store().commit_rows(vec![chunk(message, rows)])).unwrap();
    let outcomes = [RowOutcome::Rejected, RowOutcome::Correction { seq: 5, version: 2 }];
    assert_eq!(done[0].rows, outcomes);
    let told = bench.store().verdicts(message, 0, 9).unwrap();
    assert_eq!((told[0].row, told[0].findings[0].rule.as_ref()), (7, "store.damaged"));
    assert_eq!(bench.lease().len(), 1);

    // The same bytes are no duplicate of what cannot be read any more.
    assert!(!bench.receive("f-1", b"damaged").duplicate);
    let lines = bench.store().fsck().unwrap();
    for what in ["报文5:内容打不开", "投递项1:内容打不开", "投递项2:内容打不开"]
    {
        assert!(lines.iter().any(|line| line.starts_with(what)), "{what} not in {lines:?}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("投递项3")), "{lines:?}");
}

#[test]
fn damaged_items_that_are_due_do_not_come_up_again() {
    let bench = Bench::new();
    for n in ["1", "2", "3"] {
        bench.put(n, upsert(n, "a"));
    }
    let held = bench.lease();
    let due = Timestamp(NOON + 5);
    let retry = || SettledAs::Retry { due, error: String::new() };
    assert!(bench.settle(held[0].token, retry()) && bench.settle(held[1].token, retry()));
    tamper(&bench, |tx| {
        for (id, _) in tx.tables.item.raw().iter().step_by(2) {
            tx.tables.item.put_sealed(id, b"damaged");
        }
    });
    bench.clock.advance(LEASE);
    let leased = bench.lease();
    assert_eq!(leased.iter().map(|item| item.token.id).collect::<Vec<_>>(), [2]);
    assert_eq!(bench.store().next_due(&target("platform")).unwrap(), None);
}

/// All nonces of sealed values, by place.
fn nonces(bench: &Bench) -> BTreeMap<(u8, Vec<u8>), [u8; 12]> {
    let tables = bench.store().shared.snapshot().unwrap();
    let sealed = [
        tables.message.raw(),
        tables.progress.raw(),
        tables.cursor.raw(),
        tables.record.raw(),
        tables.version.raw(),
        tables.item.raw(),
        tables.verdict.raw(),
    ];
    let rows = sealed.into_iter().zip(0u8..).flat_map(|(rows, table)| {
        rows.into_iter().map(move |(key, value)| ((table, key), *value.first_chunk().unwrap()))
    });
    rows.collect()
}

fn segment(nonce: &[u8; 12]) -> u32 {
    u32::from_be_bytes([nonce[0], nonce[1], nonce[2], nonce[3]])
}

#[test]
fn no_process_seals_under_the_data_key_of_another() {
    let mut bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    let before = nonces(&bench);
    bench.store = None;
    let file = bench.dir.path().join("store.redb");
    let backup = std::fs::read(&file).unwrap();

    let mut keys = Vec::new();
    for text in ["b", "c"] {
        // The second time as from a backup: the store does not know what was sealed since.
        std::fs::write(&file, &backup).unwrap();
        bench.reopen();
        bench.put(text, upsert("1", text));
        let now = nonces(&bench);
        assert!(now.iter().all(|(place, nonce)| {
            before.get(place) == Some(nonce) || before.values().all(|n| segment(n) < segment(nonce))
        }));
        assert_eq!(now.values().collect::<BTreeSet<_>>().len(), now.len());
        let tables = bench.store().shared.snapshot().unwrap();
        keys.push(tables.segment.raw().pop().unwrap());
        bench.sound();
        bench.store = None;
    }
    // Of one number, but not one key.
    assert_eq!(keys[0].0, keys[1].0);
    assert_ne!(keys[0].1, keys[1].1);
}

#[test]
fn a_new_segment_is_used_from_then_on() {
    let bench = Bench::new();
    let last = || nonces(&bench).values().map(segment).max().unwrap();
    bench.put("1", upsert("1", "a"));
    assert_eq!(last(), 1);
    assert_eq!(bench.run(bench.store().new_segment()).unwrap(), 2);
    let long = bench.receive("f-1", &[7; 100_000]).message;
    assert_eq!(last(), 2);
    let head = std::fs::read(bench.blob(long)).unwrap();
    assert_eq!(segment(head.first_chunk().unwrap()), 2);
    bench.sound();
    assert_eq!(bench.store().storage_keys(), BTreeMap::from([("storage.encrypt.0001".into(), 2)]));
}

#[test]
fn a_data_key_wrapped_by_somebody_else_is_not_ours() {
    let key = PrivateKey::generate().unwrap();
    let seals = Seals::new(StorageKey::held(PrivateKey::from_bytes(&key.to_bytes()).unwrap()));
    let identity = seals.load(None, Vec::new()).unwrap();
    // Who knows the public half can make a store of his own, and so a wrapped data key.
    let forger = Seals::new(StorageKey::held(key));
    forger.load(None, Vec::new()).unwrap();
    let plain = [&[0; 12], TEXT.as_bytes()].concat();
    let forged = forger.current().unwrap().seal("item", b"key", plain).unwrap();
    assert!(forger.open("item", b"key", &forged).is_ok());
    seals.load(Some(identity), forger.unsaved()).unwrap();
    assert!(matches!(seals.open("item", b"key", &forged), Err(StoreError::Damaged(_))));
}

const PASSPHRASE: &[u8] = "试验口令".as_bytes();

fn storage(folder: &Path) -> StorageKey {
    StorageKey::new(Arc::new(FileKeyStore::open(folder, PASSPHRASE).unwrap()), "storage")
}

#[test]
fn keys_turn_in_service_and_the_old_one_can_go() {
    let mut bench = Bench::new();
    bench.store = None;
    bench.dir = tempfile::tempdir().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let folder = KeyFolder::new(keys.path(), PASSPHRASE).unwrap();
    assert!(matches!(
        bench.open(storage(keys.path())),
        Err(OpenError::Key(StorageKeyError::None(_)))
    ));
    let first = folder.generate("storage", KeyUse::Encrypt).unwrap();
    bench.key = storage(keys.path());
    bench.reopen();
    fill(&bench);
    bench.reopen();
    let second = folder.generate("storage", KeyUse::Encrypt).unwrap();

    // Others go on meanwhile.
    let (done, receipt) = bench.run(async {
        let (feed, agency, body) = (feed("f-1"), agency(), vec![9; 100_000]);
        tokio::join!(
            bench.store().rewrap(storage(keys.path())),
            bench.store().receive(&feed, &agency, arrival(&body), 1 << 20),
        )
    });
    let receipt = receipt.unwrap();
    let done = done.unwrap();
    assert_eq!((done.key.as_str(), done.damaged), (second.to_string().as_str(), 0));
    bench.put("3", upsert("3", "a"));
    let needed: Vec<String> = bench.store().storage_keys().into_keys().collect();
    assert_eq!(needed, [second.to_string()]);
    let status = bench.store().status().unwrap();
    bench.store = None;

    std::fs::remove_file(keys.path().join(format!("{first}.key"))).unwrap();
    bench.key = storage(keys.path());
    bench.reopen();
    bench.sound();
    assert_eq!(bench.store().status().unwrap(), status);
    assert_eq!(bench.bytes(receipt.message), [9; 100_000]);
    assert_eq!(bench.bytes(1), format!("{}\n", secrets()).into_bytes());
    let known = bench.store().record_digest(&telling(DOCUMENT).key);
    assert_eq!(bench.store().record(&known).unwrap().version, 1);
    bench.store = None;

    std::fs::remove_file(keys.path().join(format!("{second}.key"))).unwrap();
    let lost = bench.open(storage(keys.path())).unwrap_err();
    assert!(lost.to_string().contains(&format!("存储由密钥{second}保护")), "{lost}");
    folder.generate("storage", KeyUse::Encrypt).unwrap();
    folder.generate("storage", KeyUse::Encrypt).unwrap();
    let lost = bench.open(storage(keys.path())).unwrap_err();
    assert!(matches!(lost, OpenError::Key(StorageKeyError::Wrong(_))), "{lost}");
}

#[test]
fn a_refused_opening_changes_nothing() {
    let mut bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    bench.store = None;
    let wrong = bench.open(StorageKey::held(PrivateKey::generate().unwrap())).unwrap_err();
    assert!(wrong.to_string().contains("打不开这个存储"), "{wrong}");
    bench.reopen();
    bench.sound();
    assert_eq!(bench.receive("f-1", b"next").message, 2);

    for (format, refusal) in [(2u32, "store.too-old"), (5, "store.too-new"), (3, ""), (4, "")] {
        let value = crate::encode::encode(&format).unwrap();
        if bench.store.is_none() {
            let db = redb::Database::open(bench.dir.path().join("store.redb")).unwrap();
            let write = db.begin_write().unwrap();
            let meta = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
            write.open_table(meta).unwrap().insert(&b"format"[..], &value[..]).unwrap();
            write.commit().unwrap();
        } else {
            tamper(&bench, move |tx| tx.tables.meta.put_sealed(b"format", &value));
            bench.store = None;
        }
        let opened = bench.open(bench.key.clone()).map(drop);
        assert_eq!(opened.map_or_else(|error| error.code(), |()| ""), refusal);
    }
    bench.reopen();
    bench.sound();
    assert_eq!(bench.receive("f-1", b"and the next").message, 3);
}
