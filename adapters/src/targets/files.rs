//! What handing batches over as files means, whatever server they are put on. The files, precise
//! enough to write a receiver: `gateway/docs/formats/file-target.zh.md`.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use encoding_rs::{Encoding, GB18030, UTF_8};
use quick_xml::escape::escape;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use xinqiao_core::model::Operation;
use xinqiao_core::spi::{BoxFuture, Outcome, Parcel, Sealer, Target, TargetError};

use super::rest::{batch_id, batch_json};
use crate::wire::digest::digest;
use crate::wire::files::{GRACE, Server, ServerError, put_whole};
use crate::wire::params::Params;

/// A folder of a file server that batches are put into.
pub(super) struct FileTarget<S> {
    server: S,
    folder: Vec<u8>,
    name: String,
    format: Layout,
    charset: &'static Encoding,
    dedupes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Xml,
    Csv,
    Json,
}

/// What stands beside every file.
#[derive(Serialize)]
struct Manifest<'a> {
    file: &'a str,
    bytes: usize,
    digest: String,
    sha256: String,
    batch: &'a str,
    count: usize,
    format: &'static str,
    charset: &'static str,
    sealed: bool,
    keys: Vec<&'a str>,
}

impl<S: Server> FileTarget<S> {
    /// Reads `directory`, `name`, `format`, `charset` and `dedupes`.
    pub(super) fn from_params(params: &mut Params<'_>, server: Option<S>) -> Option<Self> {
        let folder = params.need_text("directory");
        let name = params.text("name").unwrap_or_else(|| "{dataset}_{batch}".to_owned());
        let filled = fill(&name, "a", "b");
        if !name.contains("{batch}") || filled.contains(['{', '}', '/', '\\']) {
            let why = "须含 {batch},另可用 {dataset};不能有其他花括号和斜杠";
            params.problem_of("name", why);
        }
        let formats = [("xml", Layout::Xml), ("csv", Layout::Csv), ("json", Layout::Json)];
        let format = params.choice("format", &formats, Layout::Xml);
        let charset = params.choice("charset", &[("utf-8", UTF_8), ("gb18030", GB18030)], UTF_8);
        let dedupes = params.flag("dedupes", true);
        let server = server?;
        let folder = server.names().bytes(&folder);
        Some(Self { server, folder, name, format, charset, dedupes })
    }

    async fn put(&self, batch: &[Parcel], sealer: Option<&dyn Sealer>) -> Result<(), TargetError> {
        let not_taken = |detail| TargetError::NotTaken { detail, retry_after: None };
        let text = self.format.text(batch, self.charset)?;
        let plain = self.charset.encode(&text).0;
        let (bytes, sealed) = match sealer {
            Some(sealer) => (sealer.seal(&plain).map_err(not_taken)?, true),
            None => (plain.into_owned(), false),
        };
        let bytes = Bytes::from(bytes);
        let id = batch_id(batch);
        let file = self.file_name(batch, &id, sealed);
        let manifest = Manifest {
            file: &file,
            bytes: bytes.len(),
            digest: format!("{:032x}", digest([&bytes[..]])),
            sha256: sha256(&bytes),
            batch: &id,
            count: batch.len(),
            format: self.format.word(),
            charset: if self.charset == UTF_8 { "utf-8" } else { "gb18030" },
            sealed,
            keys: batch.iter().map(|parcel| parcel.key.as_str()).collect(),
        };
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|_| TargetError::Rejected { detail: "无法生成清单".to_owned() })?;
        let mut link = self.server.connect().await.map_err(|error| match error {
            ServerError::Denied(_) => TargetError::Rejected { detail: error.to_string() },
            error => not_taken(error.to_string()),
        })?;
        let names = self.server.names();
        let put = put_whole(&mut link, &self.folder, &names.bytes(&file), &bytes, GRACE).await;
        put.map_err(|error| match error {
            // Refused: nothing stands under the final name.
            error if error.stands() => not_taken(error.to_string()),
            error => TargetError::Unknown { detail: error.to_string() },
        })?;
        let beside = names.bytes(&format!("{file}.manifest.json"));
        let put = put_whole(&mut link, &self.folder, &beside, &manifest.into(), GRACE).await;
        put.map_err(|error| TargetError::Unknown { detail: format!("清单未写成({error})") })
    }

    fn file_name(&self, batch: &[Parcel], id: &str, sealed: bool) -> String {
        let datasets: HashSet<&str> = batch.iter().map(|p| p.dataset.as_str()).collect();
        let dataset = match (datasets.len(), batch.first()) {
            (1, Some(parcel)) => parcel.dataset.as_str(),
            _ => "mixed",
        };
        let end = if sealed { ".p7m" } else { "" };
        format!("{}.{}{end}", fill(&self.name, dataset, id), self.format.word())
    }
}

impl<S: Server> Target for FileTarget<S> {
    fn deliver<'a>(
        &'a self,
        batch: &'a [Parcel],
        sealer: Option<&'a dyn Sealer>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, TargetError>> {
        Box::pin(async move {
            if !batch.is_empty() {
                self.put(batch, sealer).await?;
            }
            Ok(vec![Outcome::Accepted; batch.len()])
        })
    }

    fn dedupes(&self) -> bool {
        self.dedupes
    }
}

/// As `sha256sum` prints it. Not SM3: receivers check it by the tools they have.
fn sha256(bytes: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fill(pattern: &str, dataset: &str, id: &str) -> String {
    pattern.replace("{dataset}", dataset).replace("{batch}", id)
}

fn operation(parcel: &Parcel) -> &'static str {
    match parcel.operation {
        Operation::Upsert => "upsert",
        Operation::Withdraw => "withdraw",
    }
}

impl Layout {
    fn word(self) -> &'static str {
        match self {
            Self::Xml => "xml",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    fn text(self, batch: &[Parcel], charset: &'static Encoding) -> Result<String, TargetError> {
        let odd =
            |what: &str| TargetError::Rejected { detail: format!("无法生成文件:{what}") };
        match self {
            Self::Xml => xml(batch, charset).ok_or_else(|| odd("字段代码不能作XML元素名")),
            Self::Csv => csv(batch).ok_or_else(|| odd("CSV")),
            Self::Json => batch_json(batch).map_err(|_| odd("JSON")),
        }
    }
}

/// `DATAS/DATA` as city platforms give to other bodies; the parcel's head stands in attributes.
fn xml(batch: &[Parcel], charset: &'static Encoding) -> Option<String> {
    let declared = if charset == UTF_8 { "UTF-8" } else { "GB18030" };
    let mut text = format!("<?xml version=\"1.0\" encoding=\"{declared}\"?>\n<DATAS>\n");
    for parcel in batch {
        let head = [
            ("key", Cow::from(parcel.key.as_str())),
            ("dataset", parcel.dataset.as_str().into()),
            ("generation", parcel.generation.to_string().into()),
            ("operation", operation(parcel).into()),
        ];
        text.push_str("<DATA");
        for (name, value) in &head {
            text.push_str(&format!(" {name}=\"{}\"", escape(value.as_ref())));
        }
        text.push_str(">\n");
        for (code, value) in &parcel.fields {
            let begins = code.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if !begins || !code.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
            {
                return None;
            }
            // XML 1.0 has no way to write them.
            let value: String =
                value.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
            text.push_str(&format!("<{code}>{}</{code}>\n", escape(value.as_str())));
        }
        text.push_str("</DATA>\n");
    }
    text.push_str("</DATAS>\n");
    Some(text)
}

/// RFC 4180: the parcel's head, then every field code of the batch, in the order they come.
fn csv(batch: &[Parcel]) -> Option<String> {
    let mut codes: Vec<&str> = Vec::new();
    let mut known = HashSet::new();
    for (code, _) in batch.iter().flat_map(|parcel| &parcel.fields) {
        if known.insert(&**code) {
            codes.push(code);
        }
    }
    let terminator = csv::Terminator::CRLF;
    let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
    let head = ["key", "dataset", "generation", "operation"];
    writer.write_record(head.iter().chain(&codes)).ok()?;
    for parcel in batch {
        let value = |code: &&str| {
            let found = parcel.fields.iter().find(|(known, _)| &**known == *code);
            found.map_or("", |(_, value)| value.as_str()).to_owned()
        };
        let head = [
            parcel.key.clone(),
            parcel.dataset.as_str().to_owned(),
            parcel.generation.to_string(),
            operation(parcel).to_owned(),
        ];
        writer.write_record(head.into_iter().chain(codes.iter().map(value))).ok()?;
    }
    String::from_utf8(writer.into_inner().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use xinqiao_core::model::DatasetId;

    use super::*;

    fn parcel(key: &str, operation: Operation, fields: &[(&str, &str)]) -> Parcel {
        Parcel {
            key: key.to_owned(),
            dataset: DatasetId::new("admin-penalty").unwrap(),
            generation: 2021,
            operation,
            fields: fields.iter().map(|(c, v)| (Arc::from(*c), (*v).to_owned())).collect(),
        }
    }

    fn batch() -> Vec<Parcel> {
        vec![
            parcel("5be1-1", Operation::Upsert, &[("CF_A", "甲<乙&\"丙\"\u{1}"), ("CF_B", "1,2")]),
            parcel("77aa-3", Operation::Withdraw, &[("CF_C", "𠮷")]),
        ]
    }

    #[test]
    fn the_hash_is_the_standards() {
        // FIPS 180-2, B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
    }

    #[test]
    fn xml_is_well_formed_and_says_its_charset() {
        let text = xml(&batch(), GB18030).unwrap();
        assert!(text.starts_with("<?xml version=\"1.0\" encoding=\"GB18030\"?>"));
        assert!(text.contains("<CF_A>甲&lt;乙&amp;&quot;丙&quot;</CF_A>"), "{text}");
        assert!(text.contains(
            "key=\"77aa-3\" dataset=\"admin-penalty\" generation=\"2021\" operation=\"withdraw\""
        ));
        assert_eq!(xml(&[parcel("a", Operation::Upsert, &[("1 x", "")])], UTF_8), None);
        let encoded = GB18030.encode(&text).0;
        assert_eq!(GB18030.decode(&encoded).0, text);
    }

    #[test]
    fn csv_has_every_column_of_the_batch() {
        assert_eq!(
            csv(&batch()).unwrap().replace('\u{1}', "?"),
            "key,dataset,generation,operation,CF_A,CF_B,CF_C\r\n\
             5be1-1,admin-penalty,2021,upsert,\"甲<乙&\"\"丙\"\"?\",\"1,2\",\r\n\
             77aa-3,admin-penalty,2021,withdraw,,,𠮷\r\n"
        );
    }
}
