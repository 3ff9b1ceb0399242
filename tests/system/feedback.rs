//! Feedback (反馈) to an agency by its own road.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use calamine::{Data, Reader as _};
use rust_xlsxwriter::Workbook;
use serde_json::Value;
use xinqiao::clock::ShiftedClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao::config::FeedSource;
use xinqiao_core::deadline::LateOwner;
use xinqiao_core::fault::{Blame, Classify, Retry};
use xinqiao_core::model::{FeedId, Timestamp};
use xinqiao_core::spi::{
    BoxFuture, Fault, FeedbackRoad, FeedbackRow, Source, SourceContext, Standing, VerdictSink,
};
use xinqiao_store::{ItemFilter, ItemState, QueueAct, Store, StoreOptions};
use xinqiao_tests::{Row, World, csv};

use crate::fault::kill::binary;
use crate::watch::{at_rest, messages, until, verdicts};

/// 2025-03-05 12:00 in Asia/Shanghai: two days after the made decisions.
const START: Timestamp = Timestamp(1_741_147_200_000);
const DAY: u64 = 86_400_000;
/// The example of GB 11643: nobody's.
const CITIZEN: &str = "11010519491231002X";

/// A world whose feed `folder` takes workbooks and `second` CSV, with feedback into `out` and
/// `out-second`; only the latter is there.
fn world(platform: &Platform) -> World {
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let file = world.path().join("feeds.yaml");
    let feeds = std::fs::read_to_string(&file).unwrap();
    let feeds = feeds.replacen("mapping: made-csv", "mapping: made-workbook", 1);
    let feeds = feeds.replace("path: in,", "path: in, feedback-to: out,");
    let feeds = feeds.replace("path: in-second,", "path: in-second, feedback-to: out-second,");
    std::fs::write(&file, feeds).unwrap();
    std::fs::create_dir(world.path().join("out-second")).unwrap();
    world
}

async fn start(world: &World, at: Timestamp) -> Gateway {
    let clock = Arc::new(ShiftedClock::starting_at(at));
    Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap()
}

async fn platform(options: PlatformOptions) -> Platform {
    Platform::start(options).await.unwrap()
}

fn refusing() -> PlatformOptions {
    PlatformOptions { refuse_one_in: Some(4), ..PlatformOptions::default() }
}

/// Rows as a workbook, a note above the headings, with some cells (row from 0, column) put anew.
fn workbook(rows: impl IntoIterator<Item = Row>, anew: &[(usize, usize, &str)]) -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.write_string(0, 0, "填表说明:一行一个决定").unwrap();
    for (number, line) in csv(rows).lines().enumerate() {
        let line = line.trim_matches('"');
        let cells = if number == 0 { line.split(",") } else { line.split("\",\"") };
        for (column, cell) in cells.enumerate() {
            let put = anew.iter().find(|(r, c, _)| (r + 1, *c) == (number, column));
            let cell = put.map_or(cell, |(.., cell)| cell);
            sheet.write_string(number as u32 + 1, column as u16, cell).unwrap();
        }
    }
    book.save_to_buffer().unwrap()
}

fn put(world: &World, folder: &str, name: &str, bytes: &[u8]) {
    let folder = world.path().join(folder);
    let begun = folder.join(format!(".{name}.tmp"));
    std::fs::write(&begun, bytes).unwrap();
    std::fs::rename(begun, folder.join(name)).unwrap();
}

fn there(path: &Path) -> bool {
    path.try_exists().unwrap()
}

fn list(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.strip_prefix('\u{feff}').expect("a BOM").replace("\r\n", "\n"))
}

/// Rows of the only worksheet.
fn book(path: &Path) -> Vec<Vec<String>> {
    let bytes = std::fs::read(path).unwrap();
    let mut book = calamine::Xlsx::new(Cursor::new(bytes)).unwrap();
    let sheets = book.sheet_names();
    assert_eq!(sheets, ["反馈"]);
    assert!(book.worksheet_formula("反馈").unwrap().used_cells().next().is_none(), "no formula");
    let cell = |cell: &Data| match cell {
        Data::Empty => String::new(),
        Data::String(text) => text.clone(),
        other => panic!("not a text: {other:?}"),
    };
    let sheet = book.worksheet_range("反馈").unwrap();
    sheet.rows().map(|row| row.iter().map(cell).collect()).collect()
}

/// Everything in a folder.
fn all(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn feeds(world: &World) -> Value {
    let output = Command::new(binary())
        .args(["feeds", "ls", "--json", "--config", world.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn end(gateway: Gateway) {
    let store = gateway.store().clone();
    gateway.stop().await;
    assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
}

/// The list but for its receipt, which is the message's own.
#[track_caller]
fn told(store: &Store, path: &Path) -> String {
    let text = list(path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let id = path.to_str().unwrap().rsplit('.').nth(2).unwrap().parse().unwrap();
    let message = store.message(id).unwrap();
    let receipt = format!(
        "回执,,,,,xinqiao-receipt/1 arrival message={id} feed={} received={} bytes={} sm3={},,",
        message.feed, message.received, message.bytes, message.digest
    );
    assert_eq!(lines.remove(2), receipt);
    lines.join("\n")
}

const HEAD: &str = "行,文书号,结论,规则,单元格,问题,改法,平台答复";
const AGAIN: &str = "\"改正后重新报送,可以只报改正的行;时限仍从决定日期起算\"";
const FINE: &str = "8,样罚决字〔2025〕5号,退回,amount.fine-missing,J8,\"处罚类别含罚款,但没有填大于0的罚款金额\",\"请填“罚款金额(万元)”,单位为万元(2000元填0.2)\",未投递";

fn refused(row: u64, number: u64) -> String {
    format!(
        "{row},样罚决字〔2025〕{number}号,退回,target.refused,,\"platform拒收,代码1001:验证规则代码:1001 \
         未查询到主体或查询到的主体信息不匹配\",\"按平台说明更正后重新报送,时限仍从决定日期起算\",拒收"
    )
}

/// Decisions 0 to 7, the sixth without its fine. The platform refuses 2 and 6.
fn mixed() -> impl Iterator<Item = Row> {
    (0..8).map(|number| Row { number, fine: if number == 5 { 0 } else { 2 } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_told_of_holds_up_no_other() {
    let platform = platform(PlatformOptions::default()).await;
    let world = world(&platform);
    let out = world.path().join("out-second");
    let (first, second) = (out.join("a.csv.1.反馈.csv"), out.join("b.csv.2.反馈.csv"));
    // Somebody's folder stands where the first list goes.
    std::fs::create_dir_all(first.join("别人的")).unwrap();
    let gateway = start(&world, START).await;
    put(&world, "in-second", "a.csv", csv((0..3).map(Row::new)).as_bytes());
    until("the first is there", || messages(gateway.store()).len() == 1).await;
    put(&world, "in-second", "b.csv", csv((3..6).map(Row::new)).as_bytes());
    until("the second is told of", || second.is_file()).await;
    assert!(first.is_dir());
    std::fs::remove_dir_all(&first).unwrap();
    until("and the first", || first.is_file()).await;
    end(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_workbook_is_told_of_and_again_when_the_platform_has_spoken() {
    let platform = platform(refusing()).await;
    platform.set_down(true);
    let world = world(&platform);
    let out = world.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let gateway = start(&world, START).await;
    // What is nobody's business, and what would be a formula.
    let anew = [(5, 16, CITIZEN), (5, 15, "=HYPERLINK(\"http://x\")")];
    put(&world, "in", &format!("处罚_{CITIZEN}.xlsx"), &workbook(mixed(), &anew));
    let csv = out.join("处罚____.xlsx.1.反馈.csv");
    until("the first list is there", || there(&csv)).await;
    let sums = "\"共8行:收下7行(有提醒0行,重复0行),退回1行,暂存0行;平台已受理0行,拒收0行,待受理7行,待运维处理0行\"";
    let first = [HEAD, &format!("合计,,有退回,,,{sums},{AGAIN},"), FINE].join("\n");
    assert_eq!(told(gateway.store(), &csv), first);
    let copy = book(&csv.with_extension("xlsx"));
    assert_eq!(copy.len(), 2);
    assert_eq!(copy[0][..4], ["位置", "结论", "原因", "行政相对人名称"]);
    let why = "J8:处罚类别含罚款,但没有填大于0的罚款金额。改法:请填“罚款金额(万元)”,单位为万元(2000元填0.2)";
    assert_eq!(copy[1][..4], ["8", "退回", why, "样例5有限公司"]);
    // Columns of their own stay where they were; the formula is a text, the number is gone.
    assert_eq!(copy[1][18..20], ["=HYPERLINK(\"http://x\")", "***"]);

    platform.set_down(false);
    until("the platform has spoken", || at_rest(gateway.store())).await;
    until("and that is told", || list(&csv).unwrap().contains("待受理0行")).await;
    let sums = "\"共8行:收下7行(有提醒0行,重复0行),退回1行,暂存0行;平台已受理5行,拒收2行,待受理0行,待运维处理0行\"";
    let sums = format!("合计,,有退回,,,{sums},{AGAIN},");
    let then = [HEAD, &sums, &refused(5, 2), FINE, &refused(9, 6)].join("\n");
    assert_eq!(told(gateway.store(), &csv), then);
    let copy = book(&csv.with_extension("xlsx"));
    let places: Vec<&str> = copy.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(places, ["位置", "5", "8", "9"]);
    assert_eq!(all(&out), [csv.clone(), csv.with_extension("xlsx")], "two files, the same");
    for file in all(&out) {
        let name = file.to_string_lossy().into_owned();
        let bytes = std::fs::read(&file).unwrap();
        let text = if name.ends_with("csv") {
            String::from_utf8(bytes).unwrap()
        } else {
            book(&file).concat().concat()
        };
        assert!(!name.contains(CITIZEN) && !text.contains(CITIZEN), "{name}");
    }

    let drop = act(gateway.store(), QueueAct::Drop);
    assert_eq!(drop.await, 2);
    let dropped = "平台已受理5行,拒收0行,待受理0行,待运维处理2行";
    until("a drop is told", || list(&csv).unwrap().contains(dropped)).await;
    end(gateway).await;
}

/// Acts on every refused item; how many.
async fn act(store: &Store, act: QueueAct) -> usize {
    let filter = ItemFilter { state: Some(ItemState::Refused), ..ItemFilter::default() };
    let (items, _) = store.items(&filter, None, 100).unwrap();
    let ids: Vec<u64> = items.iter().map(|item| item.id).collect();
    let (who, why) = ("甲".to_owned(), "试验".to_owned());
    store.act(ids.clone(), act, who, why).await.unwrap().into_iter().for_each(Result::unwrap);
    ids.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_copy_goes_on_telling_of_a_refusal_taken_back() {
    let platform = platform(refusing()).await;
    let world = world(&platform);
    let gateway = start(&world, START).await;
    // The platform refuses both.
    world.put("in-second", "a.csv", &csv([2, 6].map(Row::new))).unwrap();
    let file = world.path().join("out-second/a.csv.1.反馈.csv");
    until("refused", || list(&file).is_some_and(|text| text.contains("拒收2行"))).await;
    assert_eq!(book(&file.with_extension("xlsx")).len(), 3);
    platform.set_down(true);
    assert_eq!(act(gateway.store(), QueueAct::Retry).await, 2);
    until("taken back", || list(&file).unwrap().contains("拒收0行,待受理2行")).await;
    let copy = book(&file.with_extension("xlsx"));
    assert_eq!(copy[1], ["", "", "没有需要更正的行"]);
    platform.set_down(false);
    until("refused again", || list(&file).unwrap().contains("拒收2行")).await;
    end(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_well_is_said_in_a_few_lines() {
    let platform = platform(PlatformOptions::default()).await;
    let world = world(&platform);
    let gateway = start(&world, START).await;
    world.put("in-second", "a.csv", &csv((0..3).map(Row::new))).unwrap();
    let out = world.path().join("out-second");
    let file = out.join("a.csv.1.反馈.csv");
    until("all is well", || list(&file).is_some_and(|text| text.contains("平台已受理3行"))).await;
    let sums = "\"共3行:收下3行(有提醒0行,重复0行),退回0行,暂存0行;平台已受理3行,拒收0行,待受理0行,待运维处理0行\"";
    let expected = [HEAD, &format!("合计,,全部接受,,,{sums},,")].join("\n");
    assert_eq!(told(gateway.store(), &file), expected);
    assert_eq!(all(&out), [file], "no annotated copy of nothing");

    world.put("in-second", "b.csv", "无关的,列名\n1,2\n").unwrap();
    let file = out.join("b.csv.2.反馈.csv");
    until("a file that cannot be read is told of", || there(&file)).await;
    let text = told(gateway.store(), &file);
    assert!(text.contains("整个报文,,退回,decode.no-heading,,"), "{text}");
    assert_eq!(all(&out).len(), 2);
    end(gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_road_holds_up_nothing_and_heals() {
    let platform = platform(refusing()).await;
    let world = world(&platform);
    let gateway = start(&world, START).await;
    put(&world, "in", "a.xlsx", &workbook(mixed(), &[]));
    world.put("in-second", "b.csv", &csv((10..13).map(Row::new))).unwrap();
    until("both are through", || messages(gateway.store()).len() == 2 && at_rest(gateway.store()))
        .await;
    let other = world.path().join("out-second/b.csv.");
    let other = [1, 2].map(|id| PathBuf::from(format!("{}{id}.反馈.csv", other.display())));
    until("the other feed is told", || other.iter().any(|file| there(file))).await;
    let mut report = Value::Null;
    until("the operator sees why, and of the other feed that all is well", || {
        report = feeds(&world);
        let note = report[1]["feedback"]["note"].as_str();
        report[0]["feedback"]["error"][0] == "source.feedback-not-put"
            && note.is_some_and(|note| note.starts_with("反馈了"))
    })
    .await;
    let why = report[0]["feedback"]["error"][1].as_str().unwrap();
    assert!(why.contains("没有这个文件或目录"), "{why}");
    assert_eq!(report[2]["feedback"], Value::Null, "a push feed asks by itself");
    put(&world, "in", "c.xlsx", &workbook((20..21).map(Row::new), &[]));
    until("more is taken in", || messages(gateway.store()).len() == 3).await;

    std::fs::create_dir(world.path().join("out")).unwrap();
    // Two files of the mixed workbook, one or two of the other.
    until("all is told", || all(&world.path().join("out")).len() >= 3).await;
    end(gateway).await;
}

/// The gateway as a process; never outlives the test.
struct Running(Child);

impl Running {
    fn start(world: &World) -> Self {
        let mut command = Command::new(binary());
        command.args(["serve", "--config"]).arg(world.path());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_refusal_and_feedback_loses_nothing() {
    let platform = platform(refusing()).await;
    let world = world(&platform);
    let running = Running::start(&world);
    put(&world, "in", "a.xlsx", &workbook(mixed(), &[]));
    until("every row is at the platform", || platform.ledger().len() == 7).await;
    until("and settled", || {
        let counters = &feeds(&world)[0]["counters"];
        counters["accepted"] == 5 && counters["refused"] == 2
    })
    .await;
    drop(running);
    let key = xinqiao::keys::storage_key(&world.config().unwrap().keys).unwrap();
    let clock = Arc::new(ShiftedClock::starting_at(START));
    let store = Store::open(&world.data(), StoreOptions::default(), clock, key).unwrap();
    let feed = FeedId::new("folder").unwrap();
    let pending = store.feedback_pending(&feed, None, 10).unwrap();
    assert_eq!(pending.len(), 1, "the road was broken: nothing has been told");
    assert!(pending[0].whole.is_some());
    assert_eq!(store.feedback_rows(&feed, 1, 0, 10).unwrap().len(), 7, "all that was settled");
    drop(store);
    std::fs::create_dir(world.path().join("out")).unwrap();
    let running = Running::start(&world);
    let file = world.path().join("out/a.xlsx.1.反馈.csv");
    let done = || list(&file).is_some_and(|text| text.contains("拒收2行,待受理0行"));
    until("both refusals are told", done).await;
    drop(running);
}

/// Statutory deadline of the made decisions: 2025-03-12.
#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_row_keeps_its_clock_and_its_first_arrival() {
    let platform = platform(PlatformOptions::default()).await;
    let world = world(&platform);
    std::fs::create_dir(world.path().join("out")).unwrap();
    let gateway = start(&world, START).await;
    put(&world, "in", "a.xlsx", &workbook(mixed(), &[]));
    let first = world.path().join("out/a.xlsx.1.反馈.xlsx");
    until("told", || there(&first) && at_rest(gateway.store())).await;
    end(gateway).await;

    // What the agency was told of, corrected as told, after the deadline.
    let gateway = start(&world, START.plus_millis(20 * DAY)).await;
    let why = book(&first)[1].clone();
    assert_eq!((why[0].as_str(), why[6].as_str()), ("8", Row::new(5).document().as_str()));
    put(&world, "in", "b.xlsx", &workbook([Row::new(5), Row::new(6), Row::new(30)], &[]));
    let second = world.path().join("out/b.xlsx.2.反馈.csv");
    let done = || list(&second).is_some_and(|text| text.contains("平台已受理3行"));
    until("corrected", done).await;
    let rows = verdicts(gateway.store(), 2);
    let late: Vec<_> = rows.iter().map(|row| row.met.unwrap().late).collect();
    // Sent back here in time, then late; sent in time; never sent before.
    assert_eq!(late, [Some(LateOwner::AgencyRefusal), None, Some(LateOwner::AgencyArrival)]);
    let (items, _) = gateway.store().items(&Default::default(), None, 100).unwrap();
    let document = Row::new(5).document();
    let item = items.iter().find(|item| item.document.as_ref() == Some(&document)).unwrap();
    let received = gateway.store().message(1).unwrap().received;
    assert_eq!(item.milestones.received, Some(received), "the first arrival");
    assert!(item.milestones.refused < item.milestones.committed);
    assert_eq!(item.deadlines.decided.to_string(), "2025-03-03");
    assert_eq!(item.deadlines.statutory.to_string(), "2025-03-12");
    end(gateway).await;
}

/// A table of the agency's, which fails when told to.
#[derive(Default)]
struct Table {
    columns: Vec<String>,
    rows: Mutex<Vec<FeedbackRow>>,
    broken: AtomicBool,
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("表写不进去")
    }
}

impl std::error::Error for Broken {}

impl Classify for Broken {
    fn code(&self) -> &'static str {
        "source.feedback-not-put"
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

impl VerdictSink for Table {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn give<'a>(&'a self, rows: &'a [FeedbackRow]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if self.broken.load(Ordering::SeqCst) {
                return Err(Box::new(Broken) as Fault);
            }
            let mut known = self.rows.lock().unwrap();
            for row in rows {
                known.retain(|it| (it.message, it.index) != (row.message, row.index));
                known.push(row.clone());
            }
            Ok(())
        })
    }
}

/// A source whose feedback goes into a table.
struct WithTable(Arc<dyn Source>, Arc<Table>);

impl Source for WithTable {
    fn run(self: Arc<Self>, context: SourceContext) -> BoxFuture<'static, ()> {
        Arc::clone(&self.0).run(context)
    }

    fn feedback(&self) -> Option<FeedbackRoad> {
        Some(FeedbackRoad::Rows(Arc::clone(&self.1) as _))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_gets_every_row_and_then_what_changes() {
    let platform = platform(refusing()).await;
    platform.set_down(true);
    let world = world(&platform);
    let columns = ["流水号", "没有的列"].map(str::to_owned).to_vec();
    let table = Arc::new(Table { columns, ..Table::default() });
    table.broken.store(true, Ordering::SeqCst);
    let mut config = world.config().unwrap();
    for feed in &mut config.feeds {
        if let FeedSource::Pull { source, .. } = &mut feed.source
            && feed.id.as_str() == "folder"
        {
            *source = Arc::new(WithTable(Arc::clone(source), Arc::clone(&table)));
        }
    }
    let clock = Arc::new(ShiftedClock::starting_at(START));
    let gateway = Gateway::start(config, world.domain(), clock).await.unwrap();
    // More than are read, or given, together.
    let rows = (0..1_300).map(|number| Row { number, fine: if number == 700 { 0 } else { 2 } });
    put(&world, "in", "a.xlsx", &workbook(rows, &[]));
    until("it is broken", || feeds(&world)[0]["feedback"]["error"][0] == "source.feedback-not-put")
        .await;
    table.broken.store(false, Ordering::SeqCst);
    let count = |wanted: Standing| {
        let rows = table.rows.lock().unwrap();
        rows.iter().filter(|row| row.standing == wanted).count()
    };
    until("every row is there", || count(Standing::Taken) == 1_299).await;
    assert_eq!((count(Standing::Refused), table.rows.lock().unwrap().len()), (1, 1_300));
    platform.set_down(false);
    until("the platform has spoken", || count(Standing::Taken) == 0 && at_rest(gateway.store()))
        .await;
    let refused = platform.ledger();
    let refused = refused.iter().filter(|row| row.attempts > 0 && !taken(row)).count();
    assert!(refused > 100);
    until("and that is told", || count(Standing::Refused) == refused + 1).await;
    put(&world, "in", "b.xlsx", b"no workbook");
    until("a file that cannot be read is told", || table.rows.lock().unwrap().len() == 1_301).await;
    let whole = table.rows.lock().unwrap().pop().unwrap();
    assert_eq!((whole.message, whole.row, whole.standing), (2, 0, Standing::Refused));
    assert!(whole.reason.starts_with("整个报文未能读取"), "{}", whole.reason);
    for row in table.rows.lock().unwrap().iter() {
        assert_eq!(row.cells, [Some(format!("{:06}", row.index)), None]);
        assert_eq!(row.row, row.index + 3);
        assert_eq!(row.reason.is_empty(), row.standing != Standing::Refused, "{row:?}");
    }
    end(gateway).await;
}

fn taken(row: &xinqiao::commands::demo::platform::LedgerRow) -> bool {
    row.outcome == xinqiao::commands::demo::platform::Outcome::Accepted
}
