//! What every command is told: where the configuration and the data are, and in which form to
//! answer.

use std::fs::File;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use time::Date;
use xinqiao_core::calendar::Calendar;
use xinqiao_core::catalogue::Catalogue;
use xinqiao_core::diagnostic::{Bundle, Diagnostics};
use xinqiao_core::fault::io_words;
use xinqiao_core::mapping::Mapping;
use xinqiao_core::model::MappingId;
use xinqiao_core::spi::Clock as _;

use super::CommandError;
use crate::clock::SystemClock;
use crate::config;
use crate::domain::{self, Domain};

/// What every command is told.
#[derive(Debug, Clone)]
pub struct Global {
    /// Folder of `gateway.yaml` and `feeds.yaml`.
    pub config: PathBuf,
    /// Folder of catalogue, calendar and mappings, if told on the command line.
    pub mappings: Option<PathBuf>,
    /// Whether the answer is to be JSON.
    pub json: bool,
}

impl Global {
    pub(super) fn args() -> [Arg; 3] {
        [
            Arg::new("config")
                .long("config")
                .display_order(900)
                .value_name("目录")
                .env("XINQIAO_CONFIG")
                .default_value(".")
                .value_parser(ValueParser::path_buf())
                .global(true)
                .help("配置目录(gateway.yaml 与 feeds.yaml 所在);缺省为环境变量 XINQIAO_CONFIG,再缺省为当前目录"),
            Arg::new("mappings")
                .long("mappings")
                .display_order(901)
                .value_name("目录")
                .env("XINQIAO_MAPPINGS")
                .value_parser(ValueParser::path_buf())
                .global(true)
                .help("映射目录(目录、日历、映射规则所在);缺省为环境变量 XINQIAO_MAPPINGS,再缺省按 gateway.yaml 的 mappings,都没有则用程序自带的"),
            Arg::new("json")
                .long("json")
                .display_order(902)
                .action(ArgAction::SetTrue)
                .global(true)
                .help("以 JSON 输出结果"),
        ]
    }

    pub(super) fn of(matches: &ArgMatches) -> Self {
        Self {
            config: matches.get_one("config").cloned().unwrap_or_else(|| PathBuf::from(".")),
            mappings: matches.get_one("mappings").cloned(),
            json: matches.get_flag("json"),
        }
    }

    /// The data folder in force; `None` is what was built in.
    pub fn mappings_folder(&self) -> Option<PathBuf> {
        self.mappings.clone().or_else(|| config::mappings_folder(&self.config))
    }

    /// The data's files.
    pub fn bundle(&self) -> Result<Bundle, CommandError> {
        let folder = self.mappings_folder();
        domain::bundle(folder.as_deref()).map_err(|error| {
            let folder = folder.unwrap_or_default();
            let (folder, why) = (folder.display(), io_words(&error));
            CommandError::Broken(format!("读取映射目录 {folder} 失败:{why}"))
        })
    }

    /// Catalogue, calendar and every mapping.
    pub fn domain(&self) -> Result<Domain, CommandError> {
        Domain::load(self.bundle()?)
            .map_err(|error| CommandError::invalid("mappings.invalid", error.to_string()))
    }

    /// Catalogue and calendar: what is needed when no mapping is asked for, even if one is broken.
    pub(super) fn base(&self) -> Result<(Bundle, Catalogue, Calendar), CommandError> {
        let bundle = self.bundle()?;
        let broken = |found: Diagnostics| {
            CommandError::invalid("mappings.invalid", found.render(&bundle, false))
        };
        let catalogue = Catalogue::load(&bundle).map_err(broken)?;
        let calendar = Calendar::load(&bundle).map_err(broken)?;
        Ok((bundle, catalogue, calendar))
    }

    /// A mapping by its id, or else by the path of its file.
    pub(super) fn mapping(
        &self,
        domain: &Domain,
        named: &str,
    ) -> Result<Arc<Mapping>, CommandError> {
        let known = MappingId::new(named).ok().and_then(|id| domain.mappings.get(&id));
        if let Some((_, mapping)) = known {
            return Ok(Arc::clone(mapping));
        }
        let path = Path::new(named);
        if !path.is_file() {
            let ids: Vec<&str> = domain.mappings.keys().map(MappingId::as_str).collect();
            return Err(CommandError::Broken(format!(
                "没有映射规则“{named}”,也没有这个文件。可用的映射规则:{}",
                if ids.is_empty() { "无".to_owned() } else { ids.join("、") }
            )));
        }
        let mut bundle = domain.bundle.clone();
        let name = add_file(&mut bundle, path)?;
        let text = bundle.get(&name).unwrap_or_default();
        match Mapping::parse(&name, text, &domain.catalogue, &bundle) {
            Ok((mapping, _)) => Ok(Arc::new(mapping)),
            Err(found) => {
                Err(CommandError::invalid("mapping.invalid", found.render(&bundle, false)))
            }
        }
    }
}

/// Puts a mapping file and the code tables near it (its folder and the folders in it) into the
/// bundle; gives the name it has there.
pub(super) fn add_file(bundle: &mut Bundle, path: &Path) -> Result<String, CommandError> {
    let text = read_text(path)?;
    let name = path.to_string_lossy().replace('\\', "/");
    // A name with a folder, so that tables beside it are found.
    let name = if name.contains('/') { name } else { format!("./{name}") };
    let folder = name.rsplit_once('/').map_or(".", |(folder, _)| folder).to_owned();
    add_tables(bundle, Path::new(&format!("{folder}/")), &folder, 1)?;
    bundle.0.insert(name.clone(), text);
    Ok(name)
}

fn add_tables(
    bundle: &mut Bundle,
    folder: &Path,
    name: &str,
    depth: u8,
) -> Result<(), CommandError> {
    let unreadable = |error| {
        let (folder, why) = (folder.display(), io_words(&error));
        CommandError::Broken(format!("读取目录 {folder} 失败:{why}"))
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(last) = path.file_name() else { continue };
        let name = format!("{name}/{}", last.to_string_lossy());
        if path.is_dir() && depth > 0 {
            // A folder that cannot be read holds no table of ours.
            let _ = add_tables(bundle, &path, &name, depth - 1);
        } else if path.extension().is_some_and(|extension| extension == "csv")
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            bundle.0.insert(name, text);
        }
    }
    Ok(())
}

pub(super) fn read_text(path: &Path) -> Result<String, CommandError> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    String::from_utf8(bytes)
        .map_err(|_| CommandError::Broken(format!("文件 {} 不是 UTF-8 文本", path.display())))
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> CommandError {
    let why = io_words(error);
    CommandError::Broken(format!("读取文件 {} 失败:{why}", path.display()))
}

/// Opens a regular file. Others are refused at once: reading a directory gives nothing, reading a
/// pipe waits for a writer who may never come.
pub(super) fn open_file(path: &Path) -> Result<File, CommandError> {
    let refused = |what: &str| {
        CommandError::Broken(format!("读取文件 {} 失败:{what},不是普通文件", path.display()))
    };
    let kind = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.file_type();
    match kind {
        _ if kind.is_file() => File::open(path).map_err(|error| unreadable(path, &error)),
        _ if kind.is_dir() => Err(refused("这是一个目录")),
        _ if kind.is_fifo() => Err(refused("这是一个管道")),
        _ if kind.is_socket() => Err(refused("这是一个套接字")),
        _ => Err(refused("这是一个设备")),
    }
}

/// Today in Asia/Shanghai, unless told.
pub(super) fn today(matches: &ArgMatches) -> Date {
    matches.get_one("today").copied().unwrap_or_else(|| SystemClock.now().shanghai_date())
}

pub(super) fn today_arg() -> Arg {
    Arg::new("today")
        .long("today")
        .value_name("日期")
        .value_parser(date)
        .help("当作今天的日期,如 2026-11-23;缺省为当天")
}

/// A date as it is written on the command line.
pub(super) fn date(text: &str) -> Result<Date, String> {
    let form = time::macros::format_description!("[year]-[month]-[day]");
    Date::parse(text, form).map_err(|_| "日期应写成 2026-11-23 的样子,并且是历法上有的日子".into())
}

/// A whole number as it is written on the command line.
pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "应为非负整数".into())
}

/// How many to list.
pub(super) fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=100_000).contains(limit));
    limit.ok_or_else(|| "应为 1 到 100000 的整数".into())
}
