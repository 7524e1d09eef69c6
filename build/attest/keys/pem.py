"""PEM in files and environment variables, and which of a text's blocks is the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from build.attest.keys import kms
from build.errors import UsageError

LIMIT = 1 << 20  # bytes of a key's file
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
COSIGN = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
PRIVATE = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", *COSIGN)
PUBLIC = ("PUBLIC KEY", "RSA PUBLIC KEY")
MAKE = (
    "make one with `cosign generate-key-pair`, or with"
    " `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem`"
)


def read(text: str, environment: Mapping[str, str], root: Path) -> tuple[str, bytes]:
    """What messages call the key, and what the file or the variable holds."""
    if "-----BEGIN" in text or not text.isprintable():  # a key itself, perhaps: it is not shown
        raise UsageError(
            "key: found the text of a key, or control characters, expected the path of a file\n"
            "  to pass a key in the environment, give env://VARIABLE, where VARIABLE holds the PEM"
        )
    if text.startswith("env://"):
        variable = text.removeprefix("env://")
        found = environment.get(variable, "")
        if not found.strip():
            state = "empty" if variable in environment else "not set"
            raise UsageError(f"{text}: the environment variable is {state}\n  set it to the PEM of the key")
        return text, found.encode(errors="surrogateescape")
    if not text:
        raise UsageError(
            f"key: found an empty name, expected that of a key\n  give a file, env://VARIABLE, or one of {kms.FORMS}"
        )
    path = root / text
    try:
        with path.open("rb") as file:  # perhaps a pipe, so its size says nothing
            data = file.read(LIMIT + 1)
    except IsADirectoryError:
        raise UsageError(f"{path}: found a folder, expected the file of a key\n  add the name of the file") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}\n  check the path of the key's file") from None
    if len(data) > LIMIT:
        raise UsageError(f"{path}: found more than {LIMIT} bytes, expected the file of a key\n  check its path")
    return str(path), data


def block(name: str, data: bytes, wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, bytes]:
    """Label and text of the PEM's one block with a `wanted` label; if it has none, of the first with a `known` one."""
    blocks = [(found[1].decode(), found[0]) for found in _BLOCK.finditer(data)]
    chosen = [each for each in blocks if each[0] in wanted]
    kind = "private" if wanted is PRIVATE else "public"
    if len(chosen) > 1:
        raise UsageError(f"{name}: found {len(chosen)} {kind} keys, expected one\n  put each into a file of its own")
    others = [each for each in blocks if each[0] in known]
    if chosen or others:
        return (chosen or others)[0]
    found = f"{blocks[0][0]}" if blocks else "no PEM block"
    advice = MAKE if kind == "private" else "a private key's holder has it, as a file such as cosign.pub"
    if found == "CERTIFICATE" and kind == "public":
        advice = "take the key out of it: `openssl x509 -pubkey -noout -in FILE > public.pem`"
    raise UsageError(f"{name}: found {found}, expected a {kind} key as PEM\n  {advice}")
