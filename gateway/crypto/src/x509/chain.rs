//! Verifying a certificate up to an anchor (证书链验证, RFC 5280 clause 6).
//!
//! Checked on the way: validity at the given time, names, signatures, CA flag, path length, key
//! usage, revocation, and that no critical extension is unknown. Name constraints and policies are
//! not understood, so a certificate that makes them critical is refused. A holder's certificate
//! must name its key usage: in a double certificate it is what tells the two apart.
//!
//! A holder's certificate that is itself an anchor (pinned) needs no path, but is looked up in its
//! issuer's lists like any other. The lists' signatures are then verified by any certificate at
//! hand that is the issuer's. A self-signed one has no issuer that could revoke it.

use std::cell::Cell;

use super::crl::Crl;
use super::{Certificate, Expiry, UnixSeconds};

/// More certificates than this between holder and anchor are refused.
const MAX_PATH: usize = 8;
/// So many signatures are verified before a tangle of look-alike issuers is given up.
const MAX_SIGNATURES: u32 = 64;

/// What the certificate shall be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A signature of its holder is verified.
    Signing,
    /// Something is sealed to its holder.
    Encryption,
}

/// How revocation is looked at.
#[derive(Debug, Clone, Copy)]
pub enum Revocation<'a> {
    /// Not at all.
    Unchecked,
    /// An issuer that has a list among these must have a current one; others need none.
    WhereKnown(&'a [Crl]),
    /// Every issuer on the path must have a current list among these.
    Required(&'a [Crl]),
    /// Every issuer on the path must have a list among these; one past its next update counts.
    RequiredEvenStale(&'a [Crl]),
}

/// What a verification rests on.
#[derive(Debug, Clone, Copy)]
pub struct Trust<'a> {
    /// Certificates trusted as they are: roots, or a peer's own (pinned).
    pub anchors: &'a [Certificate],
    /// Revocation lists.
    pub revocation: Revocation<'a>,
    /// The time that counts.
    pub at: UnixSeconds,
}

/// Why a certificate is not trusted, and which one on the path is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("证书 {subject}:{reason}")]
pub struct ChainError {
    /// The holder's name of the certificate to blame.
    pub subject: String,
    /// Why.
    pub reason: ChainReason,
}

/// See [`ChainError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainReason {
    /// Its validity has not begun.
    #[error("尚未生效")]
    NotYetValid,
    /// Its validity has ended.
    #[error("已过期")]
    Expired,
    /// It has a critical extension that is not understood.
    #[error("含有无法识别的关键扩展")]
    UnknownCriticalExtension,
    /// Its key may not do this.
    #[error("密钥用途不符")]
    KeyUsage,
    /// It issues without being a CA.
    #[error("不是 CA 证书,无权签发")]
    NotCa,
    /// More CAs stand below it than it allows.
    #[error("下级 CA 层数超出限制")]
    PathLength,
    /// Its issuer is not known.
    #[error("找不到受信任的签发者")]
    UnknownIssuer,
    /// Its signature is wrong.
    #[error("签名无效")]
    Signature,
    /// It is revoked.
    #[error("已被吊销")]
    Revoked,
    /// Its issuer has no current revocation list.
    #[error("签发者没有有效的吊销列表")]
    NoRevocationList,
    /// The path is too long or too tangled.
    #[error("证书链过长")]
    TooLong,
}

/// Verifies `certificate` for `purpose`, with the help of `intermediates` (in any order, needed
/// or not). Gives the path: the certificate first, the anchor last.
pub fn verify<'a>(
    certificate: &'a Certificate,
    purpose: Purpose,
    intermediates: &'a [Certificate],
    trust: &Trust<'a>,
) -> Result<Vec<&'a Certificate>, ChainError> {
    check_itself(certificate, trust.at)?;
    let allowed = match purpose {
        Purpose::Signing => certificate.may_sign(),
        Purpose::Encryption => certificate.may_encrypt(),
    };
    if !allowed {
        return blame(certificate, ChainReason::KeyUsage);
    }
    let mut path = vec![certificate];
    let search = Search { intermediates, trust, signatures: Cell::new(0) };
    if trust.anchors.contains(certificate) {
        search.check_pinned(certificate)?;
    } else {
        search.extend(&mut path)?;
    }
    Ok(path)
}

struct Search<'a, 's> {
    intermediates: &'a [Certificate],
    trust: &'s Trust<'a>,
    signatures: Cell<u32>,
}

impl<'a> Search<'a, '_> {
    /// Is a certificate that is trusted as it is revoked by its issuer?
    fn check_pinned(&self, pinned: &'a Certificate) -> Result<(), ChainError> {
        let (lists, required) = match self.trust.revocation {
            Revocation::Unchecked => return Ok(()),
            Revocation::WhereKnown(lists) => (lists, false),
            Revocation::Required(lists) | Revocation::RequiredEvenStale(lists) => (lists, true),
        };
        self.count_signature(pinned)?;
        if pinned.issuer() == pinned.subject() && pinned.signed_by(pinned.public_key()).is_ok() {
            return Ok(());
        }
        let mut outcome = None;
        for issuer in self.trust.anchors.iter().chain(self.intermediates) {
            if !may_be_issuer(issuer, pinned) {
                continue;
            }
            self.count_signature(pinned)?;
            if pinned.signed_by(issuer.public_key()).is_err() {
                continue;
            }
            match self.check_revocation(issuer, pinned) {
                // The issuer may have a newer certificate that may sign lists.
                Err(ChainError { reason: ChainReason::NoRevocationList, .. }) => {}
                decided => outcome = outcome.or(Some(decided)),
            }
        }
        let unknown = required || lists.iter().any(|crl| crl.issuer() == pinned.issuer());
        match outcome {
            Some(decided) => decided,
            None if unknown => blame(pinned, ChainReason::NoRevocationList),
            None => Ok(()),
        }
    }

    /// Adds issuers until an anchor is reached.
    fn extend(&self, path: &mut Vec<&'a Certificate>) -> Result<(), ChainError> {
        let Some(&child) = path.last() else {
            return Ok(());
        };
        // The first reason found on the way stands, because anchors come first.
        let mut reason = None;
        let depth = path.len();
        let anchors = self.trust.anchors.iter().map(|anchor| (anchor, true));
        let others = self.intermediates.iter().map(|other| (other, false));
        for (issuer, is_anchor) in anchors.chain(others) {
            if !may_be_issuer(issuer, child) || path.contains(&issuer) {
                continue;
            }
            if depth >= MAX_PATH {
                return blame(child, ChainReason::TooLong);
            }
            let step = self.check_step(issuer, child, depth - 1);
            let found = step.and_then(|()| {
                path.push(issuer);
                if is_anchor { Ok(()) } else { self.extend(path) }
            });
            match found {
                Ok(()) => return Ok(()),
                Err(error) => {
                    path.truncate(depth);
                    reason.get_or_insert(error);
                }
            }
        }
        match reason {
            Some(error) => Err(error),
            None => blame(child, ChainReason::UnknownIssuer),
        }
    }

    /// Did `issuer` rightfully sign `child`, below which `cas` other CAs stand?
    fn check_step(
        &self,
        issuer: &Certificate,
        child: &Certificate,
        cas: usize,
    ) -> Result<(), ChainError> {
        check_itself(issuer, self.trust.at)?;
        let usage = issuer.extensions.usage;
        let Some(basic) = issuer.extensions.basic.as_ref().filter(|basic| basic.ca) else {
            return blame(issuer, ChainReason::NotCa);
        };
        // Many roots name no usage, which restricts nothing.
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return blame(issuer, ChainReason::KeyUsage);
        }
        let allowed = basic.path_len_constraint.map(usize::from);
        if allowed.is_some_and(|allowed| cas > allowed) {
            return blame(issuer, ChainReason::PathLength);
        }
        self.count_signature(child)?;
        if child.signed_by(issuer.public_key()).is_err() {
            return blame(child, ChainReason::Signature);
        }
        self.check_revocation(issuer, child)
    }

    fn check_revocation(
        &self,
        issuer: &Certificate,
        child: &Certificate,
    ) -> Result<(), ChainError> {
        let (lists, required, stale) = match self.trust.revocation {
            Revocation::Unchecked => return Ok(()),
            Revocation::WhereKnown(lists) => (lists, false, false),
            Revocation::Required(lists) => (lists, true, false),
            Revocation::RequiredEvenStale(lists) => (lists, true, true),
        };
        let at = self.trust.at;
        let counts = |crl: &Crl| crl.current(at) || (stale && crl.this_update() <= at);
        let usage = issuer.extensions.usage;
        let may_list = usage.is_none_or(|usage| usage.crl_sign());
        let of_issuer = || lists.iter().filter(|crl| crl.issuer() == issuer.subject());
        let mut newest: Option<&Crl> = None;
        for crl in of_issuer().filter(|crl| may_list && counts(crl)) {
            self.count_signature(child)?;
            let newer = newest.is_none_or(|other| other.this_update() < crl.this_update());
            if newer && crl.signed_by(issuer.public_key()).is_ok() {
                newest = Some(crl);
            }
        }
        match newest {
            Some(crl) if crl.lists(child.serial()) => blame(child, ChainReason::Revoked),
            Some(_) => Ok(()),
            None if required || of_issuer().next().is_some() => {
                blame(child, ChainReason::NoRevocationList)
            }
            None => Ok(()),
        }
    }

    fn count_signature(&self, child: &Certificate) -> Result<(), ChainError> {
        self.signatures.set(self.signatures.get() + 1);
        match self.signatures.get() > MAX_SIGNATURES {
            true => blame(child, ChainReason::TooLong),
            false => Ok(()),
        }
    }
}

/// What holds for every certificate on a path.
fn check_itself(certificate: &Certificate, at: UnixSeconds) -> Result<(), ChainError> {
    if certificate.extensions.unknown_critical {
        return blame(certificate, ChainReason::UnknownCriticalExtension);
    }
    match certificate.expiry(at) {
        Expiry::NotYet => blame(certificate, ChainReason::NotYetValid),
        Expiry::Expired => blame(certificate, ChainReason::Expired),
        Expiry::Fine | Expiry::Soon(_) => Ok(()),
    }
}

/// By name, and by key identifier where both give one.
fn may_be_issuer(issuer: &Certificate, child: &Certificate) -> bool {
    let ids = (&issuer.extensions.subject_key, &child.extensions.authority_key);
    let same_key = match ids {
        (Some(subject), Some(authority)) => subject == authority,
        _ => true,
    };
    !child.issuer().is_empty() && issuer.subject() == child.issuer() && same_key
}

fn blame<T>(certificate: &Certificate, reason: ChainReason) -> Result<T, ChainError> {
    Err(ChainError { subject: certificate.subject().to_string(), reason })
}
