"""Drives PyPI's gmssl by the protocol of driver.h.

Never a negative oracle: it takes tampered ciphertexts for good, and signs for one id only.
"""
import sys

from gmssl import sm3, sm4
from gmssl.sm2 import CryptSM2

ID = b"1234567812345678"
ORDERS = {"c1c2c3": 0, "c1c3c2": 1}


def sm2(key, order="c1c3c2"):
    """`key` is d‖04‖x‖y or 04‖x‖y."""
    d, point = key[:-65].hex(), key[-64:].hex()
    made = CryptSM2(private_key=d, public_key="", mode=ORDERS[order], asn1=True)
    # Set by hand: its constructor strips zeros and fours off a key that begins with them.
    made.public_key = point
    return made


def digest(message):
    return bytes.fromhex(sm3.sm3_hash(list(message)))


def cbc(mode, key, iv, message):
    cipher = sm4.CryptSM4()
    cipher.set_key(key, mode)
    return cipher.crypt_cbc(iv, message)


def perform(act, *given):
    act, _, order = act.partition("-")
    match act:
        case "sm3":
            return digest(*given)
        case "sign":
            key, id, message = given
            assert id == ID
            return bytes.fromhex(sm2(key).sign_with_sm3(message))
        case "verify":
            key, id, message, signature = given
            assert id == ID
            return b"" if sm2(key).verify_with_sm3(signature.hex(), message) else None
        case "seal" if order in ORDERS:
            key, message = given
            return b"\x04" + sm2(key, order).encrypt(message)
        case "open" if order in ORDERS:
            key, sealed = given
            return sm2(key, order).decrypt(sealed[1:])
        case "cbc":
            return cbc(sm4.SM4_ENCRYPT if order == "seal" else sm4.SM4_DECRYPT, *given)
    raise ValueError(act)


for line in sys.stdin:
    act, *given = line.split()
    answer = perform(act, *(b"" if one == "-" else bytes.fromhex(one) for one in given))
    print("!" if answer is None else answer.hex() or "-", flush=True)
