//! `xinqiao demo`: six agencies, a gateway and a platform on one machine, run before one's eyes.
//!
//! Nothing is faked but the two ends: the configuration is written to files and loaded like any
//! other, files lie in watched folders, pages and pushes go over HTTP on loopback. The clock starts
//! at a fixed morning, so that deadlines come out the same on every day.

pub mod agencies;
pub mod party;
pub mod platform;
mod show;
mod stage;
mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use time::macros::{date, time};
use tokio::time::Instant;
use xinqiao_core::fault::{chain, io_words};
use xinqiao_core::model::Timestamp;
use xinqiao_crypto::x509::Certificate;
use xinqiao_store::{ItemState, StatusView};

use super::{CommandError, Global, found};
use crate::clock::ShiftedClock;
use crate::compose::Gateway;
use crate::config;
use crate::domain::{self, Domain};
use agencies::{AGENCIES, Channel, Message, Service};
use party::Party;
use platform::{Lasts, Outage, Platform, PlatformOptions};
use show::Screen;
use stage::{PASSWORD, Stage, TOKEN};
use tally::Tally;

/// The whole run may take no longer.
const LIMIT: Duration = Duration::from_secs(120);

/// How the demo is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ends by itself; status 0 only if every row is accounted for and the account adds up.
    pub exit: bool,
    /// The last line is one JSON object.
    pub json: bool,
    /// Works in this (empty) folder and leaves it there.
    pub dir: Option<PathBuf>,
    /// Leaves the temporary folder there.
    pub keep: bool,
}

/// The verb.
pub(super) struct Demo;

impl super::Command for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn clap(&self) -> Command {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
        };
        Command::new(self.name())
            .about("在本机演示全流程:六个委办局、网关、平台替身")
            .arg(flag("exit", "跑完即退出;每一行都有着落且账目平衡时退出码为0"))
            .arg(flag("json", "最后一行输出一个JSON对象"))
            .arg(flag("keep", "保留工作目录"))
            .arg(
                Arg::new("dir")
                    .long("dir")
                    .value_name("目录")
                    .value_parser(value_parser!(PathBuf))
                    .help("在此空目录中运行并保留"),
            )
    }

    fn run(&self, matches: &ArgMatches, _: &Global) -> Result<ExitCode, CommandError> {
        run(&Options {
            exit: matches.get_flag("exit"),
            json: matches.get_flag("json"),
            keep: matches.get_flag("keep"),
            dir: matches.get_one::<PathBuf>("dir").cloned(),
        })
    }
}

/// Runs the demo.
pub fn run(options: &Options) -> Result<ExitCode, CommandError> {
    let mut screen = Screen::new();
    let played = tokio::runtime::Runtime::new()
        .map_err(told)
        .and_then(|runtime| runtime.block_on(play(options, &mut screen)));
    match played {
        Ok(tally) => Ok(found(tally.unaccounted() > 0 || !tally.unbalanced().is_empty())),
        Err(error) => Err(CommandError::Failed(format!("演示中断:{error}"))),
    }
}

async fn play(options: &Options, screen: &mut Screen) -> Result<Tally, String> {
    let began = Instant::now();
    let stage = Stage::new(options.dir.clone(), options.keep)?;
    let platform = Platform::start(PlatformOptions {
        refuse_one_in: Some(50),
        outage: Some(Outage { after_rows: 3_000, lasts: Lasts::Time(Duration::from_secs(2)) }),
        break_every: Some(20),
        delay: Duration::from_millis(5),
    })
    .await
    .map_err(told)?;
    let waves = [agencies::first_wave()?, agencies::second_wave()?];
    let pages: Vec<Message> = waves
        .iter()
        .flatten()
        .filter(|message| channel(message.feed) == Channel::Pull)
        .cloned()
        .collect();
    let service = Service::start(&pages, PASSWORD).await.map_err(told)?;
    let start = Timestamp::at_shanghai(date!(2026 - 11 - 23), time!(09:00));
    let city = Party::new("市公共信用信息平台", start)?;
    let yjj = Party::new("市应急管理局", start)?;
    stage.configure(&platform.url(), &format!("http://{}", service.address()))?;
    let gateway_keys = stage.exchange_certificates(&city, &yjj, start)?;
    let signing = gateway_keys.signing;
    platform.takes_envelopes(Box::new(move |sealed| city.open(sealed, &signing).ok()));

    let domain = domain::bundle(None).map_err(told)?;
    let domain = Domain::load(domain).map_err(|error| error.to_string())?;
    let config = config::load(&stage.folder, &domain).map_err(|error| error.to_string())?;
    screen.line(&format!(
        "信桥演示:时钟从 {start} 起走;六个委办局共报送 {} 行,平台替身会拒收、停机、断线",
        waves.iter().flatten().map(|message| message.rows).sum::<u64>(),
    ));
    screen.line(&format!("工作目录 {}", stage.shown()));
    screen.line(
        "市应急管理局的推送、对平台的投递都走SM2/SM4数字信封;回执有SM2签名,落盘内容以SM4加密",
    );
    let clock = Arc::new(ShiftedClock::starting_at(start));
    let mut gateway =
        Gateway::start(config, Arc::new(domain), clock).await.map_err(|error| chain(&error))?;
    let handle = gateway_handle(&gateway, yjj, gateway_keys.encryption)?;
    let mut sent = BTreeMap::new();
    let played = tokio::select! {
        played = send(&waves, &stage, &platform, &handle, &mut sent, screen, began) => played,
        error = gateway.failed() => Err(chain(&error)),
    };
    played?;
    let tally =
        Tally::take(gateway.store(), &sent, &platform.ledger()).map_err(|error| chain(&error))?;
    screen.table(&tally, platform.traffic(), began.elapsed());
    screen.look(&stage, options.exit);
    if !options.exit {
        // Without a signal handler there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    }
    gateway.stop().await;
    if options.json {
        screen.line(&tally.json().to_string());
    }
    Ok(tally)
}

/// What sending needs of the gateway.
struct Handle {
    store: xinqiao_store::Store,
    push: String,
    /// Who pushes, and the certificate its messages are sealed to.
    yjj: Party,
    seal_to: Certificate,
}

fn gateway_handle(gateway: &Gateway, yjj: Party, seal_to: Certificate) -> Result<Handle, String> {
    let address = gateway.push_address().ok_or("推送监听没有启动")?;
    let push = format!("http://{address}/api/v1/messages");
    Ok(Handle { store: gateway.store().clone(), push, yjj, seal_to })
}

/// Sends both waves, each once the one before is through.
async fn send(
    waves: &[Vec<Message>],
    stage: &Stage,
    platform: &Platform,
    gateway: &Handle,
    sent: &mut BTreeMap<&'static str, u64>,
    screen: &mut Screen,
    began: Instant,
) -> Result<(), String> {
    for wave in waves {
        let mut pushed: Option<Bytes> = None;
        for message in wave {
            *sent.entry(message.feed).or_insert(0) += message.rows;
            match channel(message.feed) {
                Channel::Folder => {
                    let agency = AGENCIES.iter().find(|agency| agency.feed == message.feed);
                    let agency = agency.map_or(message.feed, |agency| agency.id);
                    stage.drop_file(agency, message).map_err(told)?;
                }
                Channel::Push => {
                    let sealed = gateway.yjj.seal(&message.bytes, &gateway.seal_to);
                    let sealed = Bytes::from(sealed.map_err(|error| error.to_string())?);
                    push(gateway, sealed.clone()).await?;
                    pushed = Some(sealed);
                }
                Channel::Pull => {}
            }
        }
        // As a client does that never saw the answer: the same bytes get the first receipt.
        if let Some(sealed) = pushed {
            push(gateway, sealed).await?;
        }
        loop {
            let status = gateway.store.status().map_err(|error| chain(&error))?;
            screen.status(&status, platform.traffic(), began.elapsed());
            let rows: u64 = status.feeds.values().map(|feed| feed.rows).sum();
            if rows >= sent.values().sum() && is_idle(&status) {
                break;
            }
            if began.elapsed() > LIMIT {
                screen.done();
                screen.line(&format!(
                    "超过{}秒仍未完成:已处理{rows}行,应有{}行",
                    LIMIT.as_secs(),
                    sent.values().sum::<u64>()
                ));
                // The reckoning that follows says what is missing, feed by feed.
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
    screen.done();
    Ok(())
}

fn is_idle(status: &StatusView) -> bool {
    const BUSY: [ItemState; 3] = [ItemState::Ready, ItemState::Waiting, ItemState::Leased];
    status.feeds.values().all(|feed| feed.pending_messages == 0)
        && status
            .targets
            .values()
            .all(|target| BUSY.iter().all(|state| target.states.get(state).is_none_or(|n| *n == 0)))
}

async fn push(gateway: &Handle, sealed: Bytes) -> Result<(), String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = http::Request::post(&gateway.push)
        .header(http::header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(http::header::CONTENT_TYPE, "application/pkcs7-mime")
        .body(Full::new(sealed))
        .map_err(|error| error.to_string())?;
    let answer = client.request(request).await.map_err(|error| chain(&error))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("推送被拒绝:HTTP {}", answer.status().as_u16()))
    }
}

fn channel(feed: &str) -> Channel {
    AGENCIES.iter().find(|agency| agency.feed == feed).map_or(Channel::Folder, |a| a.channel)
}

fn told(error: std::io::Error) -> String {
    io_words(&error).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_row_is_accounted_for_and_refused_only_for_what_is_wrong_with_it() {
        let options = Options { exit: true, ..Options::default() };
        let tally = play(&options, &mut Screen::quiet()).await.unwrap();
        assert_eq!(tally.unaccounted(), 0, "{}", tally.json());
        assert_eq!(tally.unbalanced(), [""; 0], "{}", tally.json());
        let waves = [agencies::first_wave().unwrap(), agencies::second_wave().unwrap()];
        for feed in &tally.feeds {
            let messages = || waves.iter().flatten().filter(|message| message.feed == feed.id);
            assert_eq!(feed.received, messages().map(|m| m.rows).sum::<u64>(), "{}", feed.id);
            // Of what is not in order, some lacks nothing but a code the mapping table may give.
            let turned_down = messages().map(|m| m.turned_down).sum::<u64>();
            assert_eq!(feed.refused + feed.held, turned_down, "{}", feed.id);
            assert_eq!(
                feed.received,
                feed.accepted + feed.refused + feed.refused_by_platform + feed.repeated + feed.held,
                "{}",
                feed.id
            );
        }
        let json = tally.json();
        let all = |key: &str| json[key].as_u64().unwrap();
        assert_eq!(all("on_time_statutory") + all("late"), all("accepted"), "{json}");
        let ends = ["accepted", "refused", "repeated", "held"].map(all);
        assert_eq!(ends.iter().sum::<u64>(), all("received"), "{json}");
        for key in ["refused", "repeated", "held", "late", "retried", "on_time_pledged"] {
            assert!(json[key].as_u64().unwrap() > 0, "{key} has something to show: {json}");
        }
    }
}
