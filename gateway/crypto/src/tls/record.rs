//! Records under SM4-GCM (RFC 8446 clause 5.2 with AEAD_SM4_GCM of RFC 8998), on the vector kernel.

use aes_gcm::KeyInit as _;
use aes_gcm::aead::AeadInOut as _;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter,
    Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion};
use xinqiao_kernels::Sm4Gcm;

use crate::aead::TAG_LENGTH;

const KEY_LENGTH: usize = 16;

pub(super) struct Sm4GcmRecords;

struct Records {
    gcm: Sm4Gcm,
    iv: Iv,
}

impl Records {
    fn new(key: &AeadKey, iv: Iv) -> Self {
        let Ok(gcm) = Sm4Gcm::new_from_slice(key.as_ref()) else {
            unreachable!("rustls derives keys of the length that key_len names")
        };
        Self { gcm, iv }
    }
}

impl Tls13AeadAlgorithm for Sm4GcmRecords {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Records::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Records::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        KEY_LENGTH
    }

    fn extract_keys(
        &self,
        _: AeadKey,
        _: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

impl MessageEncrypter for Records {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let total = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(total);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = Nonce::new(&self.iv, sequence).0;
        let tag = self
            .gcm
            .encrypt_inout_detached(&nonce.into(), &make_tls13_aad(total), payload.as_mut().into())
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        Ok(OutboundOpaqueMessage::new(typ, version, payload))
    }

    fn encrypted_payload_len(&self, length: usize) -> usize {
        length + 1 + TAG_LENGTH
    }
}

impl MessageDecrypter for Records {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let total = message.payload.len();
        let nonce = Nonce::new(&self.iv, sequence).0;
        let (ciphertext, tag) =
            message.payload.split_last_chunk_mut::<TAG_LENGTH>().ok_or(Error::DecryptError)?;
        let tag = *tag;
        self.gcm
            .decrypt_inout_detached(
                &nonce.into(),
                &make_tls13_aad(total),
                ciphertext.into(),
                &tag.into(),
            )
            .map_err(|_| Error::DecryptError)?;
        message.payload.truncate(total - TAG_LENGTH);
        message.into_tls13_unpadded_message()
    }
}
