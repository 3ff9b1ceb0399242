//! `mapping new`: a first draft of a mapping from a sample file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};
use serde::Serialize;
use xinqiao_adapters::formats::{Sniffed, sniff};
use xinqiao_core::catalogue::{Catalogue, Dataset};
use xinqiao_core::fault::{Classify as _, chain, io_words};
use xinqiao_core::mapping::{headings_known, skeleton};
use xinqiao_core::model::{FormatSpec, HeaderSpec, MappingId};
use xinqiao_core::spi::Limits;

use super::super::global::open_file;
use super::super::{CommandError, Global, out};

pub(super) fn clap() -> clap::Command {
    clap::Command::new("new")
        .about("由样本文件生成映射规则初稿:识别格式、编码、表头和列")
        .arg(
            Arg::new("sample")
                .long("sample")
                .value_name("文件")
                .required(true)
                .value_parser(ValueParser::path_buf())
                .help("委办局报送的样本文件"),
        )
        .arg(
            Arg::new("target")
                .long("target")
                .value_name("数据集")
                .help("目标数据集与版本,如 admin-penalty/2021;不写则取列名最相符的"),
        )
        .arg(
            Arg::new("id")
                .long("id")
                .value_name("标识")
                .default_value("new-mapping")
                .help("映射规则的标识"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("文件")
                .value_parser(ValueParser::path_buf())
                .help("写入新文件(已有则不覆盖);不写则输出到屏幕"),
        )
}

pub(super) fn run(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let (_, catalogue, _) = global.base()?;
    let text = |name| matches.get_one::<String>(name).map(String::as_str);
    let path: PathBuf = matches.get_one("sample").cloned().unwrap_or_default();
    let id = MappingId::new(text("id").unwrap_or_default())
        .map_err(|error| CommandError::Broken(error.to_string()))?;
    let sample = look(&path)?;
    let target = match text("target") {
        Some(named) => named_target(&catalogue, named)?,
        None => nearest_target(&catalogue, &sample.headings)?,
    };
    let draft = skeleton(&id, &target, &spec(&sample), &sample.headings);
    if let Some(file) = matches.get_one::<PathBuf>("out") {
        write_new(file, &draft)?;
    }
    if global.json {
        out::json(&Answer {
            target: target.reference(),
            header_row: sample.header_row,
            sheet: sample.sheet,
            headings: sample.headings,
            mapping: draft,
        })?;
    } else if let Some(file) = matches.get_one::<PathBuf>("out") {
        out::text(format!(
            "已写出 {}(目标 {},{}列)。核对后用 xinqiao check {0} 检查",
            file.display(),
            target.reference(),
            sample.headings.len()
        ))?;
    } else {
        out::text(draft.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Answer {
    target: String,
    header_row: Option<u32>,
    sheet: Option<String>,
    headings: Vec<String>,
    mapping: String,
}

fn look(path: &Path) -> Result<Sniffed, CommandError> {
    let mut file = open_file(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    sniff(name.as_deref(), &mut file, &Limits::default()).map_err(|error| {
        let (path, code) = (path.display(), error.code());
        CommandError::Failed(format!("样本 {path} 不能识别[{code}]:{}", chain(&error)))
    })
}

fn spec(sample: &Sniffed) -> FormatSpec {
    FormatSpec {
        encoding: sample.encoding,
        header: sample.header_row.map_or(HeaderSpec::Auto, HeaderSpec::Row),
        sheet: sample.sheet.clone(),
        record: sample.record.clone(),
        ..FormatSpec::new(sample.kind)
    }
}

fn named_target(catalogue: &Catalogue, named: &str) -> Result<Arc<Dataset>, CommandError> {
    catalogue.by_reference(named).cloned().ok_or_else(|| {
        let known: Vec<String> = catalogue.iter().map(|dataset| dataset.reference()).collect();
        CommandError::Broken(format!("没有数据集“{named}”,可用的有:{}", known.join("、")))
    })
}

/// The dataset that knows the most of the headings, in its latest generation of those that know as
/// many. Where two datasets know as many, nobody can tell but the caller.
fn nearest_target(
    catalogue: &Catalogue,
    headings: &[String],
) -> Result<Arc<Dataset>, CommandError> {
    let mut best: Vec<(usize, &Arc<Dataset>)> = Vec::new();
    for id in catalogue.ids() {
        let all = catalogue.iter().filter(|dataset| dataset.id == *id);
        let known = all.map(|dataset| (headings_known(dataset, headings), dataset));
        best.extend(known.max_by_key(|(known, dataset)| (*known, dataset.generation)));
    }
    best.sort_by_key(|(known, _)| std::cmp::Reverse(*known));
    match best.as_slice() {
        [(known, dataset), others @ ..]
            if *known > 0 && others.first().is_none_or(|(next, _)| next < known) =>
        {
            Ok(Arc::clone(dataset))
        }
        _ => {
            let shown: Vec<String> = best
                .iter()
                .map(|(known, dataset)| format!("{}(相符{known}列)", dataset.reference()))
                .collect();
            Err(CommandError::Failed(format!(
                "由样本的列名看不出是哪个数据集,请用 --target 指明。可选:{}",
                shown.join("、")
            )))
        }
    }
}

fn write_new(file: &Path, text: &str) -> Result<(), CommandError> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            CommandError::Broken(format!("文件 {} 已存在,未覆盖", file.display()))
        }
        _ => CommandError::Failed(format!("写出 {} 失败:{}", file.display(), io_words(&error))),
    };
    let mut new = File::create_new(file).map_err(failed)?;
    new.write_all(text.as_bytes()).map_err(failed)
}
