//! `ftp`: puts batches of records as files on an FTP server.

use std::sync::Arc;

use serde_json::Value;
use xinqiao_core::model::TargetId;
use xinqiao_core::spi::{ParamProblem, Secrets, Target, TargetFactory};

use super::files::FileTarget;
use crate::wire::ftp::Ftp as Server;
use crate::wire::params::{Params, Problems};

/// The kind `ftp`. Parameters, beside those by which the source `ftp` finds its server and gets in:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `directory` | the folder | required |
/// | `name` | of a file, without extension: `{batch}`, `{dataset}` | `{dataset}_{batch}` |
/// | `format` | `xml`, `csv` or `json` | `xml` |
/// | `charset` | `utf-8` or `gb18030` | `utf-8` |
/// | `dedupes` | the receiver recognises a repeated key | true |
pub(super) struct Ftp;

impl TargetFactory for Ftp {
    fn kind(&self) -> &'static str {
        "ftp"
    }

    fn build(
        &self,
        _: &TargetId,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Target>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let server = Server::from_params(&mut params, secrets);
        let target = FileTarget::from_params(&mut params, server);
        params.done();
        let problems = problems.into_inner();
        match target {
            Some(target) if problems.is_empty() => Ok(Arc::new(target)),
            _ => Err(problems),
        }
    }
}
