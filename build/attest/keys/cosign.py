"""cosign's own file for a private key: JSON in PEM; scrypt makes a key of the password, for a NaCl secretbox."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from build.errors import UsageError

# cosign writes N=65536 (32768 before 2.0), r=8 and p=1, which takes 64 MiB.
MOST_MEMORY = 256 << 20  # bytes
MOST_ROUNDS = 4  # p, each as long as the memory is large


def decrypt(name: str, pem: bytes, password: bytes) -> bytes:
    """The DER of the PKCS #8 key in `pem`, a whole block with its two marks; `name` is what messages call it.

    Raises ValueError if the password is wrong, and UsageError if the file is not as cosign writes it, wants more memory
    or time than any such file, or if PyNaCl is missing.
    """
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError as error:
        raise UsageError(
            f"{name}: keys of cosign need the Python library PyNaCl, which can't be loaded: {error}\n"
            "  install it: `.venv/bin/pip install pynacl`\n"
            "  or give an unencrypted or PKCS #8 key, as `openssl genpkey` makes it"
        ) from None
    salt, cost, nonce, sealed = _parse(name, pem)
    key = hashlib.scrypt(password, salt=salt, **cost, maxmem=MOST_MEMORY + (1 << 20), dklen=SecretBox.KEY_SIZE)
    try:
        return SecretBox(key).decrypt(sealed, nonce)
    except CryptoError:
        raise ValueError from None


def _parse(name: str, pem: bytes) -> tuple[bytes, dict[str, int], bytes, bytes]:
    """Salt and cost (n, r, p) of scrypt, nonce and ciphertext of the secretbox."""

    def wrong(found: str, expected: str) -> UsageError:
        return UsageError(
            f"{name}: found {found}, expected a key of cosign with {expected}\n"
            "  restore the file, or make a key anew with `cosign generate-key-pair`"
        )

    try:
        document: dict[str, Any] = json.loads(base64.b64decode(b"".join(pem.split(b"\n")[1:-1])))
        kdf, cipher = document["kdf"], document["cipher"]
        names = (kdf["name"], cipher["name"])
        n, r, p = (kdf["params"][key] for key in "Nrp")
        salt, nonce, sealed = (
            base64.b64decode(each, validate=True) for each in (kdf["salt"], cipher["nonce"], document["ciphertext"])
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise wrong("something damaged", "kdf, cipher and ciphertext in JSON") from None
    if names != ("scrypt", "nacl/secretbox"):
        raise wrong(" and ".join(map(str, names)), "scrypt and nacl/secretbox")
    if len(nonce) != 24:
        raise wrong(f"a nonce of {len(nonce)} bytes", "one of 24")
    whole = all(type(each) is int and each > 0 for each in (n, r, p))
    if not whole or n < 2 or n & (n - 1) or 128 * n * r > MOST_MEMORY or p > MOST_ROUNDS:
        raise wrong(
            f"scrypt with N={n!r:.40}, r={r!r:.40}, p={p!r:.40}",
            f"N a power of two, 128*N*r of at most {MOST_MEMORY} and p of at most {MOST_ROUNDS}",
        )
    return salt, {"n": n, "r": r, "p": p}, nonce, sealed
