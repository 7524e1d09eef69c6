"""The keys that sign what is published, and those that verify it: files, variables, and what a KMS or HSM holds."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from build.attest.keys import cosign, kms, pem
from build.errors import PublishError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

# What asks for a password: the argument is the prompt.
Ask = Callable[[str], str]

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_KINDS = ("ECDSA P-256", "ECDSA P-384", "ECDSA P-521", "RSA", "Ed25519")


@dataclass(frozen=True)
class PublicKey:
    """A public key, as the DER of its SubjectPublicKeyInfo: ECDSA P-256, P-384 or P-521, RSA or Ed25519."""

    der: bytes

    @property
    def hint(self) -> str:
        """What a sigstore bundle calls the key: the base64 of the DER's SHA-256."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def fingerprint(self) -> str:
        """What messages call the key: `sha256:` and the DER's SHA-256 in hexadecimal digits."""
        return f"sha256:{hashlib.sha256(self.der).hexdigest()}"

    @property
    def pem(self) -> bytes:
        """The key as in a cosign.pub."""
        lines = re.findall("..{0,63}", base64.b64encode(self.der).decode())
        return "\n".join(("-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", "")).encode()

    @cached_property
    def key(self) -> PublicKeyTypes:
        """The key as the library has it; raises UsageError without the library."""
        _need_cryptography()
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        return load_der_public_key(self.der)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this key's for `data`.

        As cosign has it, ECDSA (in DER) is over the SHA-256 whatever the curve, RSA is PKCS #1 v1.5 over the SHA-256,
        and Ed25519 is over the data itself. Raises UsageError without the library for it.
        """
        key = self.key
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            match key:
                case ec.EllipticCurvePublicKey():
                    key.verify(signature, data, ec.ECDSA(SHA256()))
                case rsa.RSAPublicKey():
                    key.verify(signature, data, padding.PKCS1v15(), SHA256())
                case ed25519.Ed25519PublicKey():
                    key.verify(signature, data)
                case _:
                    return False
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """A private key, wherever it is. If it is `deterministic`, the same data gives the same signature."""

    @property
    def deterministic(self) -> bool:
        """Whether it signs as RFC 6979 has it."""

    @property
    def public(self) -> PublicKey:
        """The public half, always ECDSA P-256."""

    def sign(self, data: bytes) -> bytes:
        """The DER of an ECDSA signature over the SHA-256 of `data`.

        Blocks: a KMS is asked through the network, so call it through asyncio.to_thread, with a deadline; an HSM signs
        one at a time. Raises PublishError if the KMS or HSM fails.
        """


@dataclass(frozen=True)
class _Signer:
    public: PublicKey
    deterministic: bool
    sign_: Callable[[bytes], bytes]

    def sign(self, data: bytes) -> bytes:
        return self.sign_(data)


def read_signer(text: str, environment: Mapping[str, str], ask: Ask, root: Path) -> Signer:
    """The private key that `text` names: a file (relative to `root`), env://VARIABLE, or the URI of a KMS or HSM.

    Files and variables hold the PEM of an ECDSA P-256 key, as PKCS #8 or SEC 1, encrypted or not, or a cosign.key; the
    password is COSIGN_PASSWORD, even an empty one, or else what `ask` returns. Such keys sign as RFC 6979 has it: the
    same data gives the same signature. Raises UsageError for anything else, and PublishError if a KMS or HSM fails.
    """
    _need_cryptography()
    if kms.is_uri(text):
        return _elsewhere(text, kms.connect(text, environment, ask))
    name, data = pem.read(text, environment, root)
    label, block = pem.block(name, data, pem.PRIVATE, pem.PUBLIC)
    if label in pem.PUBLIC:
        raise UsageError(
            f"{name}: found a public key, expected the private one\n"
            "  signing takes the file made together with it, such as cosign.key for cosign.pub"
        )
    return _in_memory(name, _private(name, label, block, lambda: _password(name, environment, ask)))


def read_public(text: str, environment: Mapping[str, str], root: Path) -> PublicKey:
    """The public key that `text` names: a file (relative to `root`), env://VARIABLE, or the URI of a KMS or HSM.

    Files and variables hold a PEM, such as a cosign.pub. Raises UsageError for anything else, and PublishError if a KMS
    or HSM fails.
    """
    _need_cryptography()
    if kms.is_uri(text):
        return _public(text, kms.public_pem(text, environment))
    name, data = pem.read(text, environment, root)
    label, block = pem.block(name, data, pem.PUBLIC, pem.PRIVATE)
    if label in pem.PRIVATE:
        made = (
            "cosign public-key --key FILE > cosign.pub"
            if label in pem.COSIGN
            else "openssl pkey -in FILE -pubout -out public.pem"
        )
        raise UsageError(
            f"{name}: found a private key, expected the public one: verifying needs no secret\n"
            f"  give the file made together with it, such as cosign.pub for cosign.key, or make it anew: `{made}`"
        )
    return _public(name, block)


def _password(name: str, environment: Mapping[str, str], ask: Ask) -> str:
    given = environment.get("COSIGN_PASSWORD")
    return ask(f"password of {name}: ") if given is None else given


def _private(name: str, label: str, block: bytes, password: Callable[[], str]) -> PrivateKeyTypes:
    """The private key in a PEM block; `password` is called if it is encrypted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    encrypted = label.startswith("ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block
    secret = password().encode(errors="surrogateescape") if encrypted else None
    try:
        if secret is not None and label in pem.COSIGN:
            return load_der_private_key(cosign.decrypt(name, block, secret), None)
        return load_pem_private_key(block, secret)
    # The library's words are left out: nobody knows what of the key they show.
    except UnsupportedAlgorithm:
        raise UsageError(f"{name}: found a kind of key or encryption that is not supported\n  {pem.MAKE}") from None
    except (ValueError, TypeError):
        if encrypted:
            raise UsageError(
                f"{name}: can't be decrypted: the password is wrong, or the file is damaged\n"
                "  COSIGN_PASSWORD has the password, even an empty one; unset it to be asked"
            ) from None
        raise UsageError(f"{name}: found a damaged private key\n  restore the file, or {pem.MAKE}") from None


def _in_memory(name: str, private: PrivateKeyTypes) -> Signer:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    public = _p256(_known(name, private.public_key()), name)
    key, algorithm = cast("ec.EllipticCurvePrivateKey", private), ec.ECDSA(SHA256(), deterministic_signing=True)
    return _Signer(public, True, lambda data: key.sign(data, algorithm))


def _elsewhere(uri: str, held: kms.Held) -> Signer:
    public = _p256(_public(uri, held.pem), uri, "create one there, and give its URI")

    def sign(data: bytes) -> bytes:
        signature = held.sign(data)
        if not public.verify(signature, data):  # an alias may by now be that of another key
            raise PublishError(
                f"{uri}: found a signature of something else, expected one of the key {public.fingerprint}\n"
                "  retry, if somebody has just replaced the key"
            )
        return signature

    return _Signer(public, False, sign)


def _public(name: str, text: bytes) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{name}: found a damaged or unsupported public key\n  restore the file") from None
    return _known(name, key)


def _known(name: str, key: PublicKeyTypes) -> PublicKey:
    """The key, its DER as everybody writes it, so that hints agree; raises UsageError if cosign knows none such."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kind = _kind(key)
    if kind not in _KINDS:
        raise UsageError(
            f"{name}: found a key for {kind}, expected {', '.join(_KINDS[:-1])} or {_KINDS[-1]}\n  {pem.MAKE}"
        )
    return PublicKey(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _p256(key: PublicKey, name: str, advice: str = pem.MAKE) -> PublicKey:
    kind = _kind(key.key)
    if kind != _KINDS[0]:
        raise UsageError(
            f"{name}: found a key for {kind}, expected {_KINDS[0]}, the only kind that signs here\n  {advice}"
        )
    return key


def _kind(key: PublicKeyTypes) -> str:
    """What messages call this kind of key."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {_CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA" if key.key_size >= 2048 else f"RSA of {key.key_size} bits"
    return type(key).__name__.removesuffix("PublicKey")


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"keys: the Python library cryptography can't be loaded: {error}\n"
            "  install it, which needs a Rust compiler on some CPUs: `.venv/bin/pip install cryptography`"
        ) from None
