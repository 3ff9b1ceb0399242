//! `sftp`: takes files from an SFTP server.

use std::sync::Arc;

use serde_json::Value;
use xinqiao_core::spi::{ParamProblem, Secrets, Source, SourceFactory};

use super::files::remote::watch;
use crate::wire::params::{Params, Problems};
use crate::wire::sftp::Sftp as Server;

/// The kind `sftp`. Parameters, beside `pattern`, `confirm-seconds`, `flag`, `after`, `max-bytes`,
/// `sequence` and `sequence-first` of [`super::folder::Folder`]:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `host`, `port` | the server | required; 22 |
/// | `host-key` | fingerprints of its keys (`SHA256:…`): a text or a list | required |
/// | `user` | | required |
/// | `password` | a secret by reference | this or `key-file` |
/// | `key-file`, `passphrase` | an OpenSSH private key; a secret by reference | |
/// | `directory` | the folder | required |
/// | `done-directory` | where to, with `after: move` | with `move` |
/// | `feedback-directory` | folder that verdicts are put into | none |
/// | `poll-seconds` | how often to look | 30 |
/// | `settle-seconds` | how long size and time must stand still | 60 |
/// | `allow` | addresses that may be connected to | any |
/// | `connect-seconds`, `read-seconds` | time-outs | 10, 30 |
pub(super) struct Sftp;

impl SourceFactory for Sftp {
    fn kind(&self) -> &'static str {
        "sftp"
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
