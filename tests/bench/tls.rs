//! TLS in this process, both ends counted: the product's national suite (RFC 8998), the classical
//! one of ring, and the national one with the portable SM4 in its records.

use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use aead::{AeadInOut as _, KeyInit as _};
use rustls::client::Resumption;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, Error, HandshakeKind,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
    Tls13CipherSuite,
};
use xinqiao_crypto::keystore::{FileKeyStore, KeyFolder, KeyStore, KeyUse};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::tls::{
    Clients, Identity, Lists, Policy, Server, ServerOptions, Stale, Suite, Trust, client,
};
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{UnixSeconds, parse_name};
use xinqiao_kernels::{Path as KernelPath, Sm4, Sm4Gcm};
use xinqiao_tests::Result;

/// The plaintext of a whole record.
pub(crate) const RECORD: usize = 16 << 10;
const HOST: &str = "gateway.test";

/// A client that never resumes, one that does, and their server.
pub(crate) struct Pair {
    full: Arc<ClientConfig>,
    resuming: Arc<ClientConfig>,
    server: At,
}

enum At {
    /// The product's listener, which chooses by the first message.
    Product(Server),
    Fixed(Arc<ServerConfig>),
}

/// Two ends after a handshake.
pub(crate) struct Talk {
    client: ClientConnection,
    server: ServerConnection,
    line: Vec<u8>,
    text: Vec<u8>,
}

impl Pair {
    /// RFC 8998 as the product does it: SM2 certificates, the server's key in its store.
    pub(crate) fn national(folder: &Path) -> Result<Self> {
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let template = |name: &str, role| {
            let name = parse_name(&format!("CN={name},O=bench,C=CN"))?;
            let template = Template::new(name, role, UnixSeconds(now - 86_400), 30);
            Result::Ok(Template { host_names: vec![HOST.to_owned()], ..template })
        };
        let (root_key, key) = (PrivateKey::generate()?, PrivateKey::generate()?);
        let root = template("root", Role::Ca { path_length: None })?;
        let root = issue_self_signed(&root, &root_key)?;
        let own = issue(&template("server", Role::Signing)?, key.public_key(), &root, &root_key)?;
        std::fs::write(folder.join("gm.pem"), root.to_pem())?;
        let keys = folder.join("keys");
        let writer = KeyFolder::new(&keys, b"bench")?;
        let id = writer.add("server", KeyUse::Sign, &key)?;
        writer.put_chain(&id, &[own])?;
        let store: Arc<dyn KeyStore> = Arc::new(FileKeyStore::open(&keys, b"bench")?);
        let server = Server::new(&ServerOptions {
            policy: Policy::Gm,
            classical: None,
            gm: Some(Identity::from_store(&store, "server")?),
            clients: Clients::Unasked,
            alpn: Vec::new(),
        })?;
        let lists = Lists { files: Vec::new(), stale: Stale::Accept, notify: Arc::new(|_| ()) };
        let trust = Trust::read(&[folder.join("gm.pem")], lists)?;
        let make = || Ok(client(Suite::Gm, &trust, None)?);
        Self::new(make, At::Product(server))
    }

    /// ring's TLS_AES_128_GCM_SHA256 with X25519 and ECDSA on P-256, which OpenSSL certifies.
    pub(crate) fn classical(folder: &Path) -> Result<Self> {
        certify(folder)?;
        let identity =
            Identity::from_files(&folder.join("server.pem"), &folder.join("server.key"))?;
        let server = Server::new(&ServerOptions {
            policy: Policy::Classical,
            classical: Some(identity),
            gm: None,
            clients: Clients::Unasked,
            alpn: Vec::new(),
        })?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..ring::default_provider()
        });
        let roots = roots(&folder.join("ca.pem"))?;
        Self::new(|| with_roots(&provider, &roots), At::Product(server))
    }

    /// The national suite of `of`, made in `folder`, but for the SM4 in its records: the portable
    /// one. Nothing in the product does this.
    pub(crate) fn portable(of: &Self, folder: &Path) -> Result<Self> {
        let chosen = of.shake(&of.full)?.1;
        let provider = chosen.crypto_provider();
        let Some(SupportedCipherSuite::Tls13(suite)) = provider.cipher_suites.first() else {
            return Err("no national suite".into());
        };
        let portable = Tls13CipherSuite {
            common: rustls::crypto::CipherSuiteCommon { ..suite.common },
            hkdf_provider: suite.hkdf_provider,
            aead_alg: &Portable,
            quic: None,
        };
        let suite: &'static Tls13CipherSuite = Box::leak(Box::new(portable));
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![SupportedCipherSuite::Tls13(suite)],
            ..CryptoProvider::clone(provider)
        });
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&chosen.cert_resolver));
        let roots = roots(&folder.join("gm.pem"))?;
        Self::new(|| with_roots(&provider, &roots), At::Fixed(Arc::new(server)))
    }

    fn new(make: impl Fn() -> Result<ClientConfig>, server: At) -> Result<Self> {
        let mut full = make()?;
        full.resumption = Resumption::disabled();
        Ok(Self { full: Arc::new(full), resuming: Arc::new(make()?), server })
    }

    /// Brings what the next handshakes resume by: the first of a client is full, and so is one
    /// after many full ones, whose sessions crowd the older ones out of the server's memory.
    pub(crate) fn begin(&self) -> Result<()> {
        self.shake(&self.resuming).map(drop)
    }

    /// A whole handshake, to the server's tickets at the client.
    pub(crate) fn handshake(&self, resumed: bool) -> Result<Talk> {
        let (talk, _) = self.shake(if resumed { &self.resuming } else { &self.full })?;
        let kind = talk.client.handshake_kind();
        let wanted = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        if kind == Some(wanted) { Ok(talk) } else { Err(format!("handshake was {kind:?}").into()) }
    }

    fn shake(&self, config: &Arc<ClientConfig>) -> Result<(Talk, Arc<ServerConfig>)> {
        let name = ServerName::try_from(HOST)?;
        let mut client = ClientConnection::new(Arc::clone(config), name)?;
        let mut line = Vec::with_capacity(2 * RECORD);
        client.write_tls(&mut line)?;
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut line.as_slice())?;
        let accepted = acceptor.accept().map_err(|(error, _)| error)?.ok_or("half a hello")?;
        let chosen = match &self.server {
            At::Product(server) => server
                .choose(&accepted.client_hello())
                .map_err(|refusal| format!("refused: {refusal}"))?,
            At::Fixed(config) => Arc::clone(config),
        };
        let server = accepted.into_connection(Arc::clone(&chosen)).map_err(|(error, _)| error)?;
        let mut talk = Talk { client, server, line, text: vec![0; RECORD] };
        while talk.client.wants_write() || talk.server.wants_write() {
            talk.line.clear();
            while talk.server.wants_write() {
                talk.server.write_tls(&mut talk.line)?;
            }
            feed(&mut talk.client, &talk.line)?;
            talk.up()?;
        }
        Ok((talk, chosen))
    }
}

impl Talk {
    /// A record from the client to the server's reader.
    pub(crate) fn record(&mut self) -> Result<()> {
        self.client.writer().write_all(&self.text)?;
        self.up()?;
        Ok(self.server.reader().read_exact(&mut self.text)?)
    }

    fn up(&mut self) -> Result<()> {
        self.line.clear();
        while self.client.wants_write() {
            self.client.write_tls(&mut self.line)?;
        }
        feed(&mut self.server, &self.line)
    }
}

fn feed<D>(
    end: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    bytes: &[u8],
) -> Result<()> {
    let mut bytes = Cursor::new(bytes);
    while bytes.position() < bytes.get_ref().len() as u64 {
        end.read_tls(&mut bytes)?;
        end.process_new_packets()?;
    }
    Ok(())
}

fn with_roots(provider: &Arc<CryptoProvider>, roots: &Arc<RootCertStore>) -> Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth())
}

fn roots(file: &Path) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file)?)?;
    Ok(Arc::new(roots))
}

/// A root and a server's certificate on P-256, by the `openssl` of the machine.
fn certify(folder: &Path) -> Result<()> {
    let run = |arguments: &[&str]| -> Result<()> {
        let common = ["req", "-x509", "-newkey", "ec", "-nodes", "-days", "9"];
        let curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-config", "openssl.cnf"];
        let done = Command::new("openssl")
            .args([&common[..], &curve, arguments].concat())
            .current_dir(folder)
            .output()?;
        let told = || String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(told().into()) }
    };
    std::fs::write(folder.join("openssl.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n")?;
    let root = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"];
    run(&[&root[..], &["-addext", "basicConstraints=critical,CA:TRUE"]].concat())?;
    let issuer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
    let own = ["-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=server"];
    run(&[&issuer[..], &own, &["-addext", "subjectAltName=DNS:gateway.test"]].concat())
}

/// Records as the product makes them, with the portable SM4.
struct Portable;

struct Records {
    gcm: Sm4Gcm,
    iv: Iv,
}

impl Records {
    fn new(key: &AeadKey, iv: Iv) -> Self {
        let key = key.as_ref().first_chunk().copied().unwrap_or_default();
        let portable = Sm4::with_path(KernelPath::Portable, &key);
        Self { gcm: portable.map_or_else(|| Sm4Gcm::new(&key.into()), Into::into), iv }
    }
}

impl Tls13AeadAlgorithm for Portable {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Records::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Records::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        16
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> std::result::Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl MessageEncrypter for Records {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> std::result::Result<OutboundOpaqueMessage, Error> {
        let total = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(total);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = Nonce::new(&self.iv, sequence).0.into();
        let tag = self
            .gcm
            .encrypt_inout_detached(&nonce, &make_tls13_aad(total), payload.as_mut().into())
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        Ok(OutboundOpaqueMessage::new(typ, version, payload))
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        length + 1 + 16
    }
}

impl MessageDecrypter for Records {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> std::result::Result<InboundPlainMessage<'a>, Error> {
        let total = message.payload.len();
        let nonce = Nonce::new(&self.iv, sequence).0.into();
        let (text, tag) =
            message.payload.split_last_chunk_mut::<16>().ok_or(Error::DecryptError)?;
        let tag = (*tag).into();
        self.gcm
            .decrypt_inout_detached(&nonce, &make_tls13_aad(total), text.into(), &tag)
            .map_err(|_| Error::DecryptError)?;
        message.payload.truncate(total - 16);
        message.into_tls13_unpadded_message()
    }
}
