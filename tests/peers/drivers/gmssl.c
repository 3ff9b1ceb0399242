/* Drives GmSSL 3.1; see driver.h. */
#include <gmssl/gcm.h>
#include <gmssl/hmac.h>
#include <gmssl/sm2.h>
#include <gmssl/sm3.h>
#include <gmssl/sm4.h>

#include "driver.h"

enum { SCALAR = 32, POINT = 65, NONCE = 12, TAG = 16 };

static int read_key(const bytes *key, SM2_KEY *out)
{
    SM2_POINT point;
    if (key->len == SCALAR + POINT) return sm2_key_set_private_key(out, key->at) == 1;
    if (key->len != POINT) stop("a key of another length");
    return sm2_point_from_octets(&point, key->at, POINT) == 1 && sm2_key_set_public_key(out, &point) == 1;
}

static int sign(const SM2_KEY *key, const bytes *id, const bytes *message, bytes *out)
{
    SM2_SIGN_CTX context;
    return sm2_sign_init(&context, key, (const char *)id->at, id->len) == 1
        && sm2_sign_update(&context, message->at, message->len) == 1
        && sm2_sign_finish(&context, out->at, &out->len) == 1;
}

static int verify(const SM2_KEY *key, const bytes *id, const bytes *message, const bytes *signature)
{
    SM2_SIGN_CTX context;
    return sm2_verify_init(&context, key, (const char *)id->at, id->len) == 1
        && sm2_verify_update(&context, message->at, message->len) == 1
        && sm2_verify_finish(&context, signature->at, signature->len) == 1;
}

static int gcm(const SM4_KEY *key, int sealing, const bytes *nonce, const bytes *about,
               const bytes *in, bytes *out)
{
    if (nonce->len != NONCE || (!sealing && in->len < TAG)) return REFUSED;
    if (sealing) {
        out->len = in->len + TAG;
        return sm4_gcm_encrypt(key, nonce->at, nonce->len, about->at, about->len, in->at, in->len,
                               out->at, TAG, out->at + in->len) == 1;
    }
    out->len = in->len - TAG;
    return sm4_gcm_decrypt(key, nonce->at, nonce->len, about->at, about->len, in->at, out->len,
                           in->at + out->len, TAG, out->at) == 1;
}

static int with_key(const char *act, const bytes *in, int count, bytes *out)
{
    SM2_KEY key;
    if (!read_key(&in[0], &key)) return REFUSED;
    if (!strcmp(act, "sign") && count == 3) return sign(&key, &in[1], &in[2], out);
    if (!strcmp(act, "verify") && count == 4) {
        out->len = 0;
        return verify(&key, &in[1], &in[2], &in[3]);
    }
    if (!strcmp(act, "seal") && count == 2)
        return sm2_encrypt(&key, in[1].at, in[1].len, out->at, &out->len) == 1;
    if (!strcmp(act, "open") && count == 2)
        return sm2_decrypt(&key, in[1].at, in[1].len, out->at, &out->len) == 1;
    stop("an unknown act");
    return REFUSED;
}

static int perform(const char *act, const bytes *in, int count, bytes *out)
{
    SM4_KEY key;
    if (!strcmp(act, "sm3") && count == 1) {
        sm3_digest(in[0].at, in[0].len, out->at);
        out->len = SM3_DIGEST_SIZE;
        return DONE;
    }
    if (!strcmp(act, "hmac") && count == 2) {
        sm3_hmac(in[0].at, in[0].len, in[1].at, in[1].len, out->at);
        out->len = SM3_DIGEST_SIZE;
        return DONE;
    }
    if ((!strcmp(act, "gcm-seal") || !strcmp(act, "gcm-open")) && count == 4) {
        sm4_set_encrypt_key(&key, in[0].at);
        return gcm(&key, !strcmp(act, "gcm-seal"), &in[1], &in[2], &in[3], out);
    }
    if (!strcmp(act, "cbc-seal") && count == 3) {
        sm4_set_encrypt_key(&key, in[0].at);
        return sm4_cbc_padding_encrypt(&key, in[1].at, in[2].at, in[2].len, out->at, &out->len) == 1;
    }
    if (!strcmp(act, "cbc-open") && count == 3) {
        sm4_set_decrypt_key(&key, in[0].at);
        return sm4_cbc_padding_decrypt(&key, in[1].at, in[2].at, in[2].len, out->at, &out->len) == 1;
    }
    if (count < 1) stop("an unknown act");
    return with_key(act, in, count, out);
}

static struct {
    char act[8];
    SM2_KEY key;
    SM4_KEY sm4;
    bytes in, out, given;
    size_t room;
    int ready;
} state;

static const bytes ID = { (unsigned char *)"1234567812345678", 16 };

static int prepare(const char *act, size_t size)
{
    snprintf(state.act, sizeof state.act, "%s", act);
    if (!state.ready) {
        state.ready = sm2_key_generate(&state.key) == 1;
        sm4_set_encrypt_key(&state.sm4, (const unsigned char *)"0123456789abcdef");
    }
    free(state.in.at);
    free(state.out.at);
    free(state.given.at);
    state.room = size + 512;
    state.in = (bytes){ calloc(1, state.room), size };
    state.out = (bytes){ calloc(1, state.room), state.room };
    state.given = (bytes){ calloc(1, state.room), state.room };
    if (!strcmp(act, "verify")) return sign(&state.key, &ID, &state.in, &state.given);
    if (!strcmp(act, "open"))
        return sm2_encrypt(&state.key, state.in.at, state.in.len, state.given.at, &state.given.len) == 1;
    return state.ready;
}

static int repeat(void)
{
    static uint64_t counter;
    state.out.len = state.room;
    switch (state.act[0] == 's' ? state.act[1] : state.act[0]) {
    case 'i': return sign(&state.key, &ID, &state.in, &state.out);
    case 'v': return verify(&state.key, &ID, &state.in, &state.given);
    case 'e': return sm2_encrypt(&state.key, state.in.at, state.in.len, state.out.at, &state.out.len) == 1;
    case 'o': return sm2_decrypt(&state.key, state.given.at, state.given.len, state.out.at, &state.out.len) == 1;
    case 'm': sm3_digest(state.in.at, state.in.len, state.out.at); return DONE;
    case 'g': {
        unsigned char nonce[NONCE] = { 0 };
        counter++;
        memcpy(nonce, &counter, sizeof counter);
        return gcm(&state.sm4, 1, &(bytes){ nonce, NONCE }, &(bytes){ nonce, 5 }, &state.in, &state.out);
    }
    default: stop("an unknown act");
    }
    return REFUSED;
}
