"""Pairs of keys, as openssl makes them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.components import need

P256 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


@dataclass(frozen=True)
class Pair:
    """The PEM files of the two halves."""

    private: Path
    public: Path


def key_pair(folder: Path, *kind: str, password: str | None = None) -> Pair:
    """`private.pem` and `public.pem` in `folder`, which may be new; of ECDSA P-256, or of a `kind` for genpkey.

    With a password, the private one is encrypted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / "private.pem", folder / "public.pem")
    hidden = [] if password is None else ["-aes-256-cbc", "-pass", f"pass:{password}"]
    openssl("genpkey", *(kind or P256), *hidden, "-out", str(pair.private))
    openssl("pkey", "-in", str(pair.private), "-passin", f"pass:{password}", "-pubout", "-out", str(pair.public))
    return pair


def openssl(*words: str, data: bytes | None = None) -> bytes:
    """The stdout of `openssl WORDS`, which must succeed."""
    run = subprocess.run([need("openssl", "openssl"), *words], input=data, capture_output=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout
