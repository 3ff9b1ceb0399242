/* Drives OpenSSL (3.0 or 4.0) and Tongsuo by their common interface; see driver.h. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include "driver.h"

enum { SCALAR = 32, POINT = 65, NONCE = 12, TAG = 16 };

/* A public key, or a private one if `key` begins with a scalar. */
static EVP_PKEY *read_key(const bytes *key)
{
    int private = key->len == SCALAR + POINT;
    if (!private && key->len != POINT) stop("a key of another length");
    EVP_PKEY *out = NULL;
    BIGNUM *d = private ? BN_bin2bn(key->at, SCALAR, NULL) : NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "SM2", 0);
    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY,
                                     key->at + (private ? SCALAR : 0), POINT);
    if (private) OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, d);
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "SM2", NULL);
    if (!context || EVP_PKEY_fromdata_init(context) != 1
        || EVP_PKEY_fromdata(context, &out, private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY,
                             parameters) != 1)
        out = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(build);
    BN_free(d);
    return out;
}

static int sign(EVP_PKEY *key, const bytes *id, const bytes *message, bytes *out)
{
    EVP_PKEY_CTX *of_key;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int done = EVP_DigestSignInit(context, &of_key, EVP_sm3(), NULL, key) == 1
        && EVP_PKEY_CTX_set1_id(of_key, id->at, (int)id->len) == 1
        && EVP_DigestSign(context, out->at, &out->len, message->at, message->len) == 1;
    EVP_MD_CTX_free(context);
    return done;
}

static int verify(EVP_PKEY *key, const bytes *id, const bytes *message, const bytes *signature)
{
    EVP_PKEY_CTX *of_key;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int done = EVP_DigestVerifyInit(context, &of_key, EVP_sm3(), NULL, key) == 1
        && EVP_PKEY_CTX_set1_id(of_key, id->at, (int)id->len) == 1
        && EVP_DigestVerify(context, signature->at, signature->len, message->at, message->len) == 1;
    EVP_MD_CTX_free(context);
    return done;
}

static int seal(EVP_PKEY_CTX *context, const bytes *plain, bytes *out)
{
    return EVP_PKEY_encrypt(context, out->at, &out->len, plain->at, plain->len) == 1;
}

static int open(EVP_PKEY_CTX *context, const bytes *sealed, bytes *out)
{
    return EVP_PKEY_decrypt(context, out->at, &out->len, sealed->at, sealed->len) == 1;
}

/* SM4-GCM under the key set in `context`; ciphertext and tag lie in one piece. */
static int gcm(EVP_CIPHER_CTX *context, int sealing, const bytes *nonce, const bytes *about,
               const bytes *in, bytes *out)
{
    int len = 0, last = 0;
    size_t whole = in->len;
    if (nonce->len != NONCE || (!sealing && whole < TAG)) return REFUSED;
    if (!sealing) whole -= TAG;
    int done = EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce->at, sealing) == 1
        && (sealing || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG, in->at + whole) == 1)
        && EVP_CipherUpdate(context, NULL, &len, about->at, (int)about->len) == 1
        && (!whole || EVP_CipherUpdate(context, out->at, &len, in->at, (int)whole) == 1)
        && EVP_CipherFinal_ex(context, out->at + whole, &last) == 1
        && (!sealing || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, out->at + whole) == 1);
    out->len = whole + (sealing ? TAG : 0);
    return done;
}

static EVP_CIPHER *gcm_cipher(void)
{
    static EVP_CIPHER *cipher;
    if (!cipher) cipher = EVP_CIPHER_fetch(NULL, "SM4-GCM", NULL);
    return cipher;
}

static int cbc(int sealing, const bytes *in, bytes *out)
{
    int len = 0, last = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = in[0].len == 16 && in[1].len == 16
        && EVP_CipherInit_ex(context, EVP_sm4_cbc(), NULL, in[0].at, in[1].at, sealing) == 1
        && EVP_CipherUpdate(context, out->at, &len, in[2].at, (int)in[2].len) == 1
        && EVP_CipherFinal_ex(context, out->at + len, &last) == 1;
    out->len = (size_t)len + (size_t)last;
    EVP_CIPHER_CTX_free(context);
    return done;
}

static int with_key(const char *act, const bytes *in, int count, bytes *out)
{
    EVP_PKEY *key = read_key(&in[0]);
    EVP_PKEY_CTX *context = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    int done = 0;
    if (!key) {
        done = 0;
    } else if (!strcmp(act, "sign") && count == 3) {
        done = sign(key, &in[1], &in[2], out);
    } else if (!strcmp(act, "verify") && count == 4) {
        done = verify(key, &in[1], &in[2], &in[3]);
        out->len = 0;
    } else if (!strcmp(act, "seal") && count == 2) {
        done = EVP_PKEY_encrypt_init(context) == 1 && seal(context, &in[1], out);
    } else if (!strcmp(act, "open") && count == 2) {
        done = EVP_PKEY_decrypt_init(context) == 1 && open(context, &in[1], out);
    } else {
        stop("an unknown act");
    }
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
    return done;
}

static int perform(const char *act, const bytes *in, int count, bytes *out)
{
    unsigned len = 0;
    ERR_clear_error();
    if (!strcmp(act, "sm3") && count == 1) {
        int done = EVP_Digest(in[0].at, in[0].len, out->at, &len, EVP_sm3(), NULL);
        out->len = len;
        return done == 1;
    }
    if (!strcmp(act, "hmac") && count == 2) {
        unsigned char *done = HMAC(EVP_sm3(), in[0].at, (int)in[0].len, in[1].at, in[1].len, out->at, &len);
        out->len = len;
        return done != NULL;
    }
    if ((!strcmp(act, "gcm-seal") || !strcmp(act, "gcm-open")) && count == 4) {
        if (!gcm_cipher()) return UNSUPPORTED;
        EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        int sealing = !strcmp(act, "gcm-seal");
        int done = EVP_CipherInit_ex2(context, gcm_cipher(), in[0].at, NULL, sealing, NULL) == 1
            && gcm(context, sealing, &in[1], &in[2], &in[3], out);
        EVP_CIPHER_CTX_free(context);
        return done;
    }
    if ((!strcmp(act, "cbc-seal") || !strcmp(act, "cbc-open")) && count == 3)
        return cbc(!strcmp(act, "cbc-seal"), in, out);
    if (count < 1) stop("an unknown act");
    return with_key(act, in, count, out);
}

static struct {
    char act[8];
    EVP_PKEY *key;
    EVP_PKEY_CTX *seal, *open;
    EVP_CIPHER_CTX *gcm;
    bytes in, out, given;
    size_t room;
} state;

static const bytes ID = { (unsigned char *)"1234567812345678", 16 };

static int prepare(const char *act, size_t size)
{
    snprintf(state.act, sizeof state.act, "%s", act);
    if (!state.key) {
        state.key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
        state.seal = EVP_PKEY_CTX_new(state.key, NULL);
        state.open = EVP_PKEY_CTX_new(state.key, NULL);
        if (EVP_PKEY_encrypt_init(state.seal) != 1 || EVP_PKEY_decrypt_init(state.open) != 1) return REFUSED;
        state.gcm = EVP_CIPHER_CTX_new();
    }
    free(state.in.at);
    free(state.out.at);
    state.room = size + 512;
    state.in = (bytes){ calloc(1, state.room), size };
    state.out = (bytes){ calloc(1, state.room), state.room };
    free(state.given.at);
    state.given = (bytes){ calloc(1, state.room), state.room };
    if (!strcmp(act, "verify")) return sign(state.key, &ID, &state.in, &state.given);
    if (!strcmp(act, "open")) return seal(state.seal, &state.in, &state.given);
    if (!strcmp(act, "gcm")) {
        if (!gcm_cipher()) return UNSUPPORTED;
        return EVP_CipherInit_ex2(state.gcm, gcm_cipher(), (const unsigned char *)"0123456789abcdef", NULL, 1, NULL);
    }
    return DONE;
}

static int repeat(void)
{
    static uint64_t counter;
    state.out.len = state.room;
    switch (state.act[0] == 's' ? state.act[1] : state.act[0]) {
    case 'i': return sign(state.key, &ID, &state.in, &state.out);
    case 'v': return verify(state.key, &ID, &state.in, &state.given);
    case 'e': return seal(state.seal, &state.in, &state.out);
    case 'o': return open(state.open, &state.given, &state.out);
    case 'm': return EVP_Digest(state.in.at, state.in.len, state.out.at, NULL, EVP_sm3(), NULL);
    case 'g': {
        unsigned char nonce[NONCE] = { 0 };
        counter++;
        memcpy(nonce, &counter, sizeof counter);
        return gcm(state.gcm, 1, &(bytes){ nonce, NONCE }, &(bytes){ nonce, 5 }, &state.in, &state.out);
    }
    default: stop("an unknown act");
    }
    return REFUSED;
}
