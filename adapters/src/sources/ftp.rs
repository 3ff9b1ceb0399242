//! `ftp`: takes files from an FTP or FTPS server.

use std::sync::Arc;

use serde_json::Value;
use xinqiao_core::spi::{ParamProblem, Secrets, Source, SourceFactory};

use super::files::remote::watch;
use crate::wire::ftp::Ftp as Server;
use crate::wire::params::{Params, Problems};

/// The kind `ftp`. Parameters, beside `pattern`, `confirm-seconds`, `flag`, `after`, `max-bytes`,
/// `sequence` and `sequence-first` of [`super::folder::Folder`]:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `host`, `port` | the server | required; 21, implicit 990 |
/// | `user`, `password` | a text; a secret by reference | required |
/// | `security` | `plain`, `explicit` (AUTH TLS) or `implicit` | `explicit` |
/// | `ca`, `client-cert`, `client-key` | PEM files | `ca` unless `plain` |
/// | `mode` | of data connections: `passive` or `active` | `passive` |
/// | `names` | bytes of names: `utf-8` or `gb18030` | `utf-8` |
/// | `directory` | the folder | required |
/// | `done-directory` | where to, with `after: move` | with `move` |
/// | `feedback-directory` | folder that verdicts are put into | none |
/// | `poll-seconds` | how often to look | 30 |
/// | `settle-seconds` | how long size and time must stand still | 60 |
/// | `allow` | addresses that may be connected to | any |
/// | `connect-seconds`, `read-seconds` | time-outs | 10, 30 |
pub(super) struct Ftp;

impl SourceFactory for Ftp {
    fn kind(&self) -> &'static str {
        "ftp"
    }

    fn build(
        &self,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Source>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let server = Server::from_params(&mut params, secrets);
        let source = watch(&mut params, server);
        params.done();
        let problems = problems.into_inner();
        source.filter(|_| problems.is_empty()).ok_or(problems)
    }
}
