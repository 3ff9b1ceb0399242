//! Failing commits, second processes, and damage that fsck must see.

use std::io;
use std::sync::atomic::AtomicBool;

use redb::StorageBackend;
use redb::backends::FileBackend;

use super::*;

/// A disk whose sync can be made to fail.
#[derive(Debug)]
struct Failing(FileBackend, Arc<AtomicBool>);

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            return Err(io::Error::other("no sync"));
        }
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

#[test]
fn after_a_failed_commit_everything_fails_until_reopened() {
    let mut bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    bench.store = None;
    let broken = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&broken);
    let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    let store =
        open::open(bench.dir.path(), &options(), clock, bench.key.clone(), |builder, path| {
            let file = std::fs::File::options().read(true).write(true).open(path)?;
            builder.create_with_backend(Failing(FileBackend::new(file)?, switch))
        });
    bench.store = Some(store.unwrap());
    broken.store(true, Ordering::SeqCst);
    let (a, b) = bench.run(async {
        let (feed, agency) = (feed("f-1"), agency());
        let (one, two) = (arrival(b"x"), arrival(b"y"));
        tokio::join!(
            bench.store().receive(&feed, &agency, one, 9),
            bench.store().receive(&feed, &agency, two, 9),
        )
    });
    assert!(matches!(a, Err(StoreError::OutcomeUnknown)));
    assert!(matches!(b, Err(StoreError::OutcomeUnknown)));
    broken.store(false, Ordering::SeqCst);
    let later = bench.run(bench.store().receive(&feed("f-1"), &agency(), arrival(b"z"), 9));
    assert!(matches!(later, Err(StoreError::OutcomeUnknown)));
    assert!(matches!(bench.store().status(), Err(StoreError::OutcomeUnknown)));
    bench.reopen();
    bench.sound();
    assert!(!bench.receive("f-1", b"z").duplicate);
    assert_eq!(bench.lease().len(), 1);
}

#[test]
fn a_second_opening_is_refused() {
    let bench = Bench::new();
    let second = bench.open(bench.key.clone());
    assert!(matches!(second, Err(OpenError::Locked)));
}

#[test]
fn fsck_sees_a_missing_blob_and_a_wrong_counter() {
    let bench = Bench::new();
    let receipt = bench.receive("f-1", &[3; 100_000]);
    std::fs::remove_file(bench.blob(receipt.message)).unwrap();
    bench
        .run(bench.store().shared.committer().unwrap().commit(0, |tx| {
            tx.feed(&feed("f-1")).accepted += 1;
            Ok(())
        }))
        .unwrap();
    let found = bench.store().fsck().unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("原文缺失") && found[1].contains("接入任务f-1"));
}

#[test]
fn waiters_are_told_on_every_clone() {
    let bench = Bench::new();
    let (one, two) = (bench.store().clone(), bench.store().clone());
    bench.run(async {
        one.ready_changed().await;
        two.ready_changed().await;
    });
    bench.put("1", upsert("1", "a"));
    bench.run(async {
        one.ready_changed().await;
        two.ready_changed().await;
    });
}
