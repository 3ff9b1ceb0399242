//! What lies in the data folder of a whole gateway, and turning the storage key while it runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use xinqiao::clock::ShiftedClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_core::model::Timestamp;
use xinqiao_tests::{Client, Row, World, csv, ndjson};

use crate::fault::kill::binary;
use crate::watch::{at_rest, until};

/// 2026-11-23 12:00 in Asia/Shanghai.
const START: Timestamp = Timestamp(1_795_406_400_000);

async fn start(world: &World) -> Gateway {
    let clock = Arc::new(ShiftedClock::starting_at(START));
    Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap()
}

fn rows(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Row> {
    numbers.map(Row::new)
}

async fn settled(gateway: &Gateway, messages: u64) {
    until("everything is settled", || {
        let status = gateway.store().status().unwrap();
        let came: u64 = status.feeds.values().map(|feed| feed.messages).sum();
        came >= messages && at_rest(gateway.store())
    })
    .await;
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}

/// How many of the texts some file holds, in UTF-8, GB18030 or UTF-16.
pub(crate) fn readable(folder: &Path, texts: &[String]) -> usize {
    let contents: Vec<Vec<u8>> =
        files(folder).iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!contents.is_empty());
    let forms = |text: &str| {
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        [text.as_bytes().to_vec(), encoding_rs::GB18030.encode(text).0.into_owned(), wide]
    };
    let holds = |form: &Vec<u8>| {
        contents.iter().any(|bytes| bytes.windows(form.len()).any(|window| window == form))
    };
    texts.iter().filter(|text| forms(text).iter().any(holds)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_readable_lies_in_the_data_folder() {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let gateway = start(&world).await;
    // A short message, one long enough for a file of its own, and rows that are refused.
    world.put("in", "short.csv", &csv(rows(0..3))).unwrap();
    world.put("in", "long.csv", &csv(rows(10..400))).unwrap();
    let refused = ndjson([Row { number: 900, fine: 0 }]);
    let address = gateway.push_address().unwrap();
    Client::connect(address).await.unwrap().push(&refused).await.unwrap();
    settled(&gateway, 3).await;
    gateway.stop().await;

    let telling = |row: Row| [row.document(), row.subject()];
    let mut texts: Vec<String> =
        [0, 1, 2, 10, 200, 399, 900].into_iter().flat_map(|n| telling(Row::new(n))).collect();
    texts.extend(["未按规定运行治理设施", "样例甲", "short.csv"].map(str::to_owned));
    assert_eq!(readable(&world.data(), &texts), 0);
    // The search finds what is there.
    std::fs::write(world.data().join("canary"), csv(rows(0..1))).unwrap();
    assert!(readable(&world.data(), &texts) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_key_turns_while_the_gateway_runs() {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let gateway = start(&world).await;
    world.put("in", "before.csv", &csv(rows(0..20))).unwrap();
    settled(&gateway, 1).await;

    let folder = world.path().to_owned();
    let rotate = tokio::task::spawn_blocking(move || {
        Command::new(binary())
            .args(["keys", "rotate", "storage", "--config"])
            .arg(&folder)
            .output()
            .unwrap()
    });
    let output = rotate.await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("storage.encrypt.0002 保护"), "{told}");

    world.put("in", "after.csv", &csv(rows(20..40))).unwrap();
    settled(&gateway, 2).await;
    gateway.stop().await;
    // The former generation is not needed any more.
    std::fs::remove_file(world.path().join("keys/storage.encrypt.0001.key")).unwrap();
    let gateway = start(&world).await;
    assert_eq!(gateway.store().status().unwrap().records, 40);
    assert_eq!(gateway.store().fsck().unwrap(), Vec::<String>::new());
    gateway.stop().await;
    assert_eq!(platform.ledger().len(), 40);
}
