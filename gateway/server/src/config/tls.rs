//! The `tls` sections: of the listener, and of links that the gateway calls out on. What each
//! option does is told in `docs/formats/tls.zh.md`.

use std::any::Any;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ClientConfig;
use xinqiao_core::spi::{SecretRef, Secrets};
use xinqiao_core::yaml::{At, Several};
use xinqiao_crypto::Sm3Digest;
use xinqiao_crypto::keystore::{KeyId, KeyStore, KeyUse};
use xinqiao_crypto::tls::{
    Clients, Identity, Lists, Notice, Policy, Server, ServerOptions, Stale, Suite, TlsError, Trust,
    client, fingerprint_of_file,
};

use super::check::{Check, FEEDS, GATEWAY};
use super::file;
use super::secrets::Resolver;
use crate::keys::KeysConfig;

/// The listener's `tls` section, checked; nothing of it is opened yet.
#[derive(Debug, Clone)]
pub struct ListenTls {
    policy: Policy,
    material: Material,
    /// `Some(true)` if clients must show certificates, `Some(false)` if they may.
    clients: Option<bool>,
}

/// What both kinds of links name.
#[derive(Debug, Clone)]
struct Material {
    /// Classical chain and key, PEM files.
    classical: Option<(PathBuf, PathBuf)>,
    /// Name of the signing key in the key store.
    gm: Option<String>,
    roots: Vec<PathBuf>,
    lists: Vec<PathBuf>,
    stale: Stale,
}

impl ListenTls {
    /// Are clients asked for certificates?
    pub(super) fn asks(&self) -> bool {
        self.clients.is_some()
    }

    /// The classical chain's file.
    pub fn cert(&self) -> Option<&Path> {
        self.material.classical.as_ref().map(|(cert, _)| cert.as_path())
    }

    /// Name of the national signing key.
    pub fn gm_key(&self) -> Option<&str> {
        self.material.gm.as_deref()
    }

    /// Files of the anchors that clients are verified by.
    pub fn roots(&self) -> &[PathBuf] {
        &self.material.roots
    }

    /// Reads certificates and lists, and finds the key.
    pub fn open(&self, store: &Arc<dyn KeyStore>) -> Result<Server, TlsError> {
        let trust = || self.material.trust("listen");
        Server::new(&ServerOptions {
            policy: self.policy,
            classical: self.material.classical()?,
            gm: self.material.gm(store)?,
            clients: match self.clients {
                None => Clients::Unasked,
                Some(false) => Clients::Optional(trust()?),
                Some(true) => Clients::Required(trust()?),
            },
            alpn: vec![b"http/1.1".to_vec()],
        })
    }
}

impl Material {
    fn classical(&self) -> Result<Option<Identity>, TlsError> {
        let files = self.classical.as_ref();
        files.map(|(chain, key)| Identity::from_files(chain, key)).transpose()
    }

    fn gm(&self, store: &Arc<dyn KeyStore>) -> Result<Option<Identity>, TlsError> {
        self.gm.as_ref().map(|name| Identity::from_store(store, name)).transpose()
    }

    fn trust(&self, link: &str) -> Result<Trust, TlsError> {
        let link = link.to_owned();
        let notify = Arc::new(move |notice: &Notice| {
            let code = notice.code("tls");
            match notice {
                Notice::Renewed => tracing::info!(link, code, "{notice}"),
                _ => tracing::warn!(link, code, "{notice}"),
            }
        });
        let lists = Lists { files: self.lists.clone(), stale: self.stale, notify };
        Trust::read(&self.roots, lists)
    }
}

/// [`Secrets`] of one adapter, with what its `tls` section made.
pub(super) struct LinkSecrets<'a> {
    resolver: &'a Resolver,
    tls: Option<Arc<ClientConfig>>,
    taken: AtomicBool,
}

impl LinkSecrets<'_> {
    /// Was there a section that the adapter has no use for?
    pub(super) fn left_over(&self) -> bool {
        self.tls.is_some() && !self.taken.load(Ordering::Relaxed)
    }
}

impl Secrets for LinkSecrets<'_> {
    fn resolve(&self, reference: &SecretRef) -> Result<String, String> {
        self.resolver.resolve(reference)
    }

    fn tls(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.taken.store(true, Ordering::Relaxed);
        self.tls.clone().map(|tls| tls as _)
    }
}

/// Opens the key store when the first link needs a key of it, and only then: that takes time.
#[derive(Default)]
pub(super) struct LinkKeys {
    /// `None` if the section `keys` is wrong, which is told elsewhere.
    pub(super) config: Option<KeysConfig>,
    store: Option<Arc<dyn KeyStore>>,
}

impl LinkKeys {
    fn open(&mut self) -> Option<Result<Arc<dyn KeyStore>, TlsError>> {
        if self.store.is_none() {
            let config = self.config.as_ref()?;
            match config.store() {
                Ok(store) => self.store = Some(store),
                Err(error) => return Some(Err(error.into())),
            }
        }
        self.store.clone().map(Ok)
    }
}

/// The keys of a section that name certificates, keys and files.
struct Given {
    cert: Option<At<String>>,
    key: Option<At<String>>,
    gm_key: Option<At<String>>,
    roots: Option<Several<At<String>>>,
    crls: Option<Several<At<String>>>,
    stale_crls: Option<At<String>>,
}

impl Check<'_> {
    pub(super) fn listen_tls(&mut self, tls: file::TlsFile) -> Option<ListenTls> {
        let at = tls.policy.as_ref().or(tls.cert.as_ref()).or(tls.gm_key.as_ref());
        let at = at.map(|given| given.span.clone()).unwrap_or_default();
        let policy = match &tls.policy {
            None => Some(Policy::Classical),
            Some(given) => {
                let words = [
                    ("classical", Policy::Classical),
                    ("gm", Policy::Gm),
                    ("either", Policy::Either),
                ];
                self.word(GATEWAY, given, &words)
            }
        };
        let clients = match &tls.clients {
            None => Some(None),
            Some(given) => {
                let words = [("none", None), ("optional", Some(false)), ("required", Some(true))];
                self.word(GATEWAY, given, &words)
            }
        };
        let clients_at = tls.clients.as_ref().map_or(at.clone(), |given| given.span.clone());
        let material = self.material(
            GATEWAY,
            Given {
                cert: tls.cert,
                key: tls.key,
                gm_key: tls.gm_key,
                roots: tls.roots,
                crls: tls.crls,
                stale_crls: tls.stale_crls,
            },
        );
        let (policy, clients, material) = (policy?, clients?, material?);
        let wants = |suite| policy == Policy::Either || policy == only(suite);
        for (suite, given) in
            [(Suite::Classical, material.classical.is_some()), (Suite::Gm, material.gm.is_some())]
        {
            let error = match (wants(suite), given) {
                (true, false) => TlsError::NoIdentity(suite),
                (false, true) => TlsError::UnusedIdentity(suite),
                _ => continue,
            };
            self.error(GATEWAY, at.clone(), "config.tls", error.to_string());
        }
        let named = !material.roots.is_empty() || !material.lists.is_empty();
        let why = match (clients, named) {
            (None, true) => {
                "roots 与 crls 用来验证客户端证书,须同时写 clients: optional 或 required"
            }
            (Some(_), _) if material.roots.is_empty() => {
                "要验证客户端证书,须用 roots 给出签发它们的根证书"
            }
            _ => return Some(ListenTls { policy, material, clients }),
        };
        self.error(GATEWAY, clients_at, "config.tls", why.to_owned());
        None
    }

    /// What an adapter gets; `None` if its `tls` section is wrong, which has been told.
    pub(super) fn link_secrets<'s>(
        &mut self,
        file: &str,
        link: &str,
        tls: Option<file::LinkTlsFile>,
        resolver: &'s Resolver,
    ) -> Option<LinkSecrets<'s>> {
        let tls = match tls {
            None => None,
            Some(tls) => Some(Arc::new(self.link_tls(file, link, tls)?)),
        };
        Some(LinkSecrets { resolver, tls, taken: AtomicBool::new(false) })
    }

    fn link_tls(&mut self, file: &str, link: &str, tls: file::LinkTlsFile) -> Option<ClientConfig> {
        let words = [("classical", Suite::Classical), ("gm", Suite::Gm)];
        let suite = self.word(file, &tls.policy, &words);
        let given = Given {
            cert: tls.cert,
            key: tls.key,
            gm_key: tls.gm_key,
            roots: Some(tls.roots.value),
            crls: tls.crls,
            stale_crls: tls.stale_crls,
        };
        let material = self.material(file, given);
        let (suite, material) = (suite?, material?);
        let mut made = || {
            let trust = material.trust(link)?;
            let identity = match (&material.gm, material.classical()?) {
                (Some(_), Some(_)) if suite == Suite::Gm => {
                    return Err(TlsError::UnusedIdentity(Suite::Classical));
                }
                (None, classical) => classical,
                (Some(_), _) => match self.links.open() {
                    None => return Ok(None),
                    Some(store) => material.gm(&store?)?,
                },
            };
            client(suite, &trust, identity.as_ref()).map(Some)
        };
        made()
            .map_err(|error: TlsError| {
                let message = format!("{link} 的 tls:{error}");
                self.error(file, tls.policy.span.clone(), "config.tls", message);
            })
            .ok()
            .flatten()
    }

    fn material(&mut self, file: &str, given: Given) -> Option<Material> {
        let stale = match &given.stale_crls {
            None => Some(Stale::default()),
            Some(given) => {
                self.word(file, given, &[("accept", Stale::Accept), ("refuse", Stale::Refuse)])
            }
        };
        let classical = match (given.cert, given.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((self.path_in(file, cert), self.path_in(file, key))),
            (Some(one), None) | (None, Some(one)) => {
                let message = "cert 与 key 须同时给出".to_owned();
                self.error(file, one.span, "config.tls", message);
                return None;
            }
        };
        if let Some(name) = &given.gm_key
            && let Err(why) = KeyId::new(&name.value, KeyUse::Sign, 1)
        {
            self.error(file, name.span.clone(), "config.key-name", why.to_string());
            return None;
        }
        let mut several = |files: Option<Several<At<String>>>| -> Vec<PathBuf> {
            let files = files.map(|files| files.0).unwrap_or_default();
            files.into_iter().map(|one| self.path_in(file, one)).collect()
        };
        let (roots, lists) = (several(given.roots), several(given.crls));
        let gm = given.gm_key.map(|name| name.value);
        Some(Material { classical, gm, roots, lists, stale: stale? })
    }

    /// The SM3 of an agency's client certificates, one a file.
    pub(super) fn client_certificates(
        &mut self,
        given: Option<Several<At<String>>>,
    ) -> Vec<(Sm3Digest, Range<usize>)> {
        let mut all = Vec::new();
        for name in given.map(|files| files.0).unwrap_or_default() {
            match fingerprint_of_file(&self.folder.join(&name.value)) {
                Ok(digest) => all.push((digest, name.span)),
                Err(why) => self.error(FEEDS, name.span, "config.certificate", why.to_string()),
            }
        }
        all
    }

    fn word<T: Copy>(&mut self, file: &str, given: &At<String>, words: &[(&str, T)]) -> Option<T> {
        let found = words.iter().find(|(word, _)| *word == given.value).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let message = format!("应为 {}", known.join("、"));
            self.error(file, given.span.clone(), "config.tls", message);
        }
        found
    }
}

fn only(suite: Suite) -> Policy {
    match suite {
        Suite::Classical => Policy::Classical,
        Suite::Gm => Policy::Gm,
    }
}
