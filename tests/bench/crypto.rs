//! National cryptography beside other people's, in the same run on the same core.
//!
//! `bench-crypto [--rounds N | --short]`. In every round each act is done by us and by each peer in
//! turn, measured in time on the processor; told are medians with their range, and our ratio to the
//! peer. Peers are what `tests/peers/build` provides. Where a peer has no single act for what we do
//! (a sealed batch), its time is the sum of its parts of the same round.
#![expect(clippy::print_stdout, reason = "a program that reports")]
#![expect(clippy::float_arithmetic, reason = "rates and ratios")]

mod tls;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Cursor;

use rustix::time::{ClockId, clock_gettime};
use xinqiao_crypto::aead::{NonceSequence, Sm4Gcm};
use xinqiao_crypto::envelope::{Cipher, Signing, sign_and_seal};
use xinqiao_crypto::sm2::{PrivateKey, Signature, SignerId};
use xinqiao_crypto::sm3;
use xinqiao_crypto::sm4::Sm4Key;
use xinqiao_crypto::x509::issue::{Role, Template, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};
use xinqiao_kernels::sm3_lanes::digest_many;
use xinqiao_tests::peers::{Driver, Peer};
use xinqiao_tests::{Result, scale, spread};

use tls::Pair;

/// On the processor, for one act of one party in one round.
const MILLISECONDS: u64 = 300;
const MIB: usize = 1 << 20;

/// What is done: a name for people, the driver's name for it, its size in bytes.
const ACTS: [(&str, &str, usize); 9] = [
    ("SM2 sign", "sign", 32),
    ("SM2 verify", "verify", 32),
    ("SM2 seal 16 B", "seal", 16),
    ("SM2 open 16 B", "open", 16),
    ("SM3, one stream of 16 KiB", "sm3", 16 << 10),
    ("SM4-GCM 256 B", "gcm", 256),
    ("SM4-GCM 1 KiB", "gcm", 1 << 10),
    ("SM4-GCM 16 KiB", "gcm", 16 << 10),
    ("SM4-GCM 1 MiB", "gcm", MIB),
];

/// What shall be reached against OpenSSL 4.0.
const TARGETS: [(&str, f64); 4] =
    [("SM2 sign", 3.0), ("SM2 verify", 1.1), ("SM4-GCM 1 KiB", 3.0), ("SM4-GCM 16 KiB", 8.0)];
/// Sealed batches of 1 MiB a second, in SM4-GCM.
const BATCHES: f64 = 200.0;

/// TLS records against the same with the portable SM4.
const RECORDS: f64 = 4.0;

const LANES: &str = "SM3, 16 streams of 16 KiB";
const GHASH: &str = "GHASH of 16 KiB";
const BATCH_GCM: &str = "1 MiB signed, sealed, GCM";
const BATCH_CBC: &str = "1 MiB signed, sealed, CBC";
const FULL: &str = "TLS, full handshake";
const RESUMED: &str = "TLS, resumed handshake";
const STREAM: &str = "TLS, records of 16 KiB";
const CLASSICAL: &str = "classical";
const PORTABLE: &str = "portable SM4";
const CLOCK: &str = "the clock";

/// Rates a second of every round, by what was done and by whom (`None`: us).
type Rates = BTreeMap<(&'static str, Option<&'static str>), Vec<f64>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = scale(&arguments)?;
    let milliseconds = MILLISECONDS / scale.part;
    let mut drivers = Vec::new();
    for peer in Peer::IN_C {
        drivers.push((peer.name(), peer.driver()?));
    }
    let ours = Ours::new()?;
    let folder = tempfile::tempdir()?;
    let national = Pair::national(folder.path())?;
    let pairs = [
        (Some(CLASSICAL), Pair::classical(folder.path())?),
        (Some(PORTABLE), Pair::portable(&national, folder.path())?),
        (None, national),
    ];
    let mut rates = Rates::new();
    for _ in 0..scale.rounds {
        round(&ours, &mut drivers, milliseconds, &mut rates)?;
        lines(&pairs, milliseconds, &mut rates)?;
    }
    report(&rates);
    Ok(())
}

fn round(
    ours: &Ours,
    drivers: &mut [(&'static str, Driver)],
    milliseconds: u64,
    rates: &mut Rates,
) -> Result<()> {
    let mut note = |what, who, rate| rates.entry((what, who)).or_default().push(rate);
    let mut parts: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
    for (what, act, size) in ACTS {
        note(what, None, rate(milliseconds, || ours.act(act, size))?);
        for (who, driver) in &mut *drivers {
            if let Some(rate) = driver.bench(act, size, milliseconds)? {
                note(what, Some(who), rate);
                parts.entry(who).or_default().insert(what, rate);
            }
        }
    }
    let streams = [&ours.text[..16 << 10]; 16];
    let lanes = || {
        black_box(digest_many(&streams));
        Ok(())
    };
    note(LANES, None, rate(milliseconds, lanes)?);
    note(GHASH, None, rate(milliseconds, || ours.ghash(16 << 10))?);
    for (what, cipher) in [(BATCH_GCM, Cipher::Gcm), (BATCH_CBC, Cipher::Cbc)] {
        note(what, None, rate(milliseconds * 2, || ours.batch(cipher))?);
    }
    for (who, parts) in parts {
        let time = |what: &str, acts: usize| Some(acts as f64 / parts.get(what)?);
        let sm3 = time("SM3, one stream of 16 KiB", MIB / (16 << 10));
        let all = [sm3, time("SM2 sign", 1), time("SM2 seal 16 B", 1), time("SM4-GCM 1 MiB", 1)];
        if let Some(seconds) = all.into_iter().sum::<Option<f64>>() {
            note(BATCH_GCM, Some(who), 1.0 / seconds);
        }
    }
    let clock = || {
        multiplications();
        Ok(())
    };
    note(CLOCK, None, rate(milliseconds, clock)? * f64::from(3 * STEPS));
    Ok(())
}

/// Handshakes and records, both ends of them.
fn lines(
    pairs: &[(Option<&'static str>, Pair)],
    milliseconds: u64,
    rates: &mut Rates,
) -> Result<()> {
    for (who, pair) in pairs {
        let mut note = |what, rate| rates.entry((what, *who)).or_default().push(rate);
        if *who != Some(PORTABLE) {
            for (what, resumed) in [(FULL, false), (RESUMED, true)] {
                pair.begin()?;
                let shake = || pair.handshake(resumed).map(drop);
                note(what, rate(milliseconds, shake)?);
            }
        }
        let mut talk = pair.handshake(false)?;
        note(STREAM, rate(milliseconds, || talk.record())?);
    }
    Ok(())
}

/// Acts a second of this thread's time on the processor.
fn rate(milliseconds: u64, mut act: impl FnMut() -> Result<()>) -> Result<f64> {
    let length = milliseconds as f64 / 1e3;
    let (begun, mut acts, mut step) = (processor(), 0_u64, 1_u64);
    loop {
        for _ in 0..step {
            act()?;
        }
        acts += step;
        let passed = processor() - begun;
        if passed >= length {
            return Ok(acts as f64 / passed);
        }
        if passed < length / 200.0 {
            step *= 2;
        }
    }
}

fn processor() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

const STEPS: u32 = 1 << 16;

/// Multiplications that wait for each other: three cycles each on every x86-64 of the last years,
/// which tells how fast the clock runs.
fn multiplications() {
    let mut x = black_box(3_u64);
    for _ in 0..STEPS {
        x = x.wrapping_mul(x);
    }
    black_box(x);
}

/// Keys and texts ready for use, as the drivers have them.
struct Ours {
    key: PrivateKey,
    signature: Signature,
    sealed: Vec<u8>,
    gcm: Sm4Gcm,
    text: Vec<u8>,
    signing: Certificate,
    encryption: Certificate,
}

impl Ours {
    fn new() -> Result<Self> {
        let key = PrivateKey::generate()?;
        let from = UnixSeconds(1_800_000_000);
        let certificate = |role| {
            let template = Template::new(parse_name("CN=bench,C=CN")?, role, from, 30);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(issue_self_signed(&template, &key)?)
        };
        Ok(Self {
            signature: key.sign(SignerId::STANDARD, &[0; 32])?,
            sealed: key.public_key().seal(&[0; 16])?,
            gcm: Sm4Gcm::new(&Sm4Key::generate()?),
            text: vec![0; MIB],
            signing: certificate(Role::Signing)?,
            encryption: certificate(Role::Encryption)?,
            key,
        })
    }

    fn act(&self, act: &str, size: usize) -> Result<()> {
        let text = self.text.get(..size).unwrap_or_default();
        let public = self.key.public_key();
        match act {
            "sign" => drop(black_box(self.key.sign(SignerId::STANDARD, text)?)),
            "verify" => public.verify(SignerId::STANDARD, text, &self.signature)?,
            "seal" => drop(black_box(public.seal(text)?)),
            "open" => drop(black_box(self.key.open(&self.sealed)?)),
            "sm3" => drop(black_box(sm3(text))),
            _ => self.seal(b"12345", text)?,
        }
        Ok(())
    }

    fn ghash(&self, size: usize) -> Result<()> {
        self.seal(self.text.get(..size).unwrap_or_default(), b"")
    }

    fn seal(&self, about: &[u8], text: &[u8]) -> Result<()> {
        // The key is a bench's: a nonce may come again.
        let nonce = NonceSequence::new([0; 8]).next().ok_or("no nonce")?;
        black_box(self.gcm.seal(nonce, about, text)?);
        Ok(())
    }

    fn batch(&self, cipher: Cipher) -> Result<()> {
        let signing = Signing {
            certificate: &self.signing,
            chain: &[],
            signer: &self.key,
            at: self.signing.not_before(),
        };
        let mut out = Vec::with_capacity(MIB + 4096);
        let to = std::slice::from_ref(&self.encryption);
        sign_and_seal(&mut Cursor::new(&self.text), &signing, to, cipher, &mut out)?;
        black_box(out);
        Ok(())
    }
}

fn report(rates: &Rates) {
    let ours = |what: &'static str| rates.get(&(what, None)).cloned().unwrap_or_default();
    let theirs = |what: &'static str, who| rates.get(&(what, Some(who))).cloned();
    let lines = ACTS.into_iter().map(|(what, act, size)| match act {
        "sm3" | "gcm" => (what, "MB/s", size as f64 / 1e6),
        _ => (what, "/s", 1.0),
    });
    let more = [
        (LANES, "MB/s", 16.0 * 16_384.0 / 1e6),
        (BATCH_GCM, "/s", 1.0),
        (BATCH_CBC, "/s", 1.0),
        (FULL, "/s", 1.0),
        (RESUMED, "/s", 1.0),
        (STREAM, "MB/s", tls::RECORD as f64 / 1e6),
    ];
    for (what, unit, times) in lines.chain(more) {
        let show =
            |rates: Vec<f64>| spread(&mut rates.iter().map(|r| r * times).collect::<Vec<_>>());
        println!("{what:26} {} {unit}", show(ours(what)));
        for peer in Peer::IN_C.map(Peer::name).into_iter().chain([CLASSICAL, PORTABLE]) {
            if let Some(theirs) = theirs(what, peer) {
                let ratio = ratio(&ours(what), &theirs);
                println!("    {peer:22} {} {unit}, ratio {ratio:.2}", show(theirs));
            }
        }
    }
    println!();
    for (what, target) in TARGETS {
        let reached = theirs(what, Peer::Openssl.name()).map_or(0.0, |r| ratio(&ours(what), &r));
        told(what, reached, target, "times OpenSSL 4.0");
    }
    let records = theirs(STREAM, PORTABLE).map_or(0.0, |r| ratio(&ours(STREAM), &r));
    told(STREAM, records, RECORDS, "times the portable SM4");
    told(BATCH_GCM, median(&ours(BATCH_GCM)), BATCHES, "a second");
    println!();
    limits(&|what| median(&ours(what)));
}

fn told(what: &str, reached: f64, target: f64, unit: &str) {
    let word = if reached >= target { "reached" } else { "MISSED" };
    println!("{word:8} {what}: {reached:.2} {unit}, target {target}");
}

/// What the machine could do, and what stands between.
fn limits(rate: &dyn Fn(&'static str) -> f64) {
    let clock = rate(CLOCK);
    let per_byte = |what, bytes: f64| clock / (rate(what) * bytes);
    let kib16 = 16_384.0;
    let (gcm, ghash) = (per_byte("SM4-GCM 16 KiB", kib16), per_byte(GHASH, kib16));
    let counter = gcm - ghash;
    println!("clock                      {:.2} GHz, by multiplications of 3 cycles", clock / 1e9);
    println!(
        "SM4-GCM 16 KiB             {gcm:.2} cycles/byte: GHASH {ghash:.2}, SM4-CTR and copying \
         {counter:.2}; interleaved, {:.2} is the limit: a GHASH of 512-bit multiplications inside \
         the kernel stands between",
        ghash.max(counter)
    );
    println!(
        "SM3                        {:.2} cycles/byte in one stream, 7.5 the best published: its \
         64 rounds wait for each other; {:.2} in 16 lanes",
        per_byte("SM3, one stream of 16 KiB", kib16),
        per_byte(LANES, 16.0 * kib16),
    );
    println!(
        "SM2                        {:.0} thousand cycles a signature, {:.0} a verification; 35 \
         and 180 published (Yog-SM2, tables at secret indices): a field of \
         its own, as Tongsuo has, or in assembly stands between",
        clock / rate("SM2 sign") / 1e3,
        clock / rate("SM2 verify") / 1e3,
    );
    let batch = 1e3 / rate(BATCH_GCM);
    let (digest, stream) = (4e3 / rate(LANES), 64e3 / rate("SM3, one stream of 16 KiB"));
    let cipher = 1e3 / rate("SM4-GCM 1 MiB");
    println!(
        "1 MiB batch, GCM           {batch:.2} ms: SM3 of its pieces in lanes {digest:.2} (in one \
         stream, as the standard's signature asks for, {stream:.2}), SM4-GCM {cipher:.2}, the rest \
         SM2, copying and structure",
    );
    println!(
        "TLS record, 16 KiB         {:.2} cycles/byte for both ends: SM4-GCM twice is {:.2}, the \
         rest rustls's copying and ours of the bench",
        per_byte(STREAM, kib16),
        2.0 * gcm,
    );
}

/// The median of the rounds' ratios.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(&ours.iter().zip(theirs).map(|(a, b)| a / b).collect::<Vec<_>>())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
