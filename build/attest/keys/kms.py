"""Keys that never leave a KMS or an HSM, by the URIs of securesystemslib, which speaks with them."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from build.errors import BuildError, PublishError, UsageError
from build.report import indented

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

T = TypeVar("T")

_FORMS = {
    "awskms": "awskms:KEY, where KEY is an ID, an ARN or alias/NAME",
    "azurekms": "azurekms://VAULT.vault.azure.net/keys/NAME",
    "gcpkms": "gcpkms:projects/PROJECT/locations/PLACE/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/VERSION",
    "hsm": "hsm:ID?label=TOKEN, where both may be left out, and ID is a number",
}
FORMS = ", ".join(f"{scheme}:" for scheme in _FORMS)
# What others call a key, with what to do instead.
_STRANGE = {
    "hv": "Vault: securesystemslib reads only its Ed25519 keys, and what signs here is ECDSA P-256",
    "hashivault": "Vault: securesystemslib reads only its Ed25519 keys, and what signs here is ECDSA P-256",
    "pkcs11": f"HSMs are {_FORMS['hsm']}, and PYKCS11LIB has the path of the PKCS #11 module",
}
_URI = re.compile(r"([a-z][a-z0-9+.-]+):(.*)", re.DOTALL)
_PLACES = {
    "awskms": re.compile(r"(?:///)?([A-Za-z0-9][A-Za-z0-9:/_-]*)"),
    "azurekms": re.compile(r"//([A-Za-z0-9-]+)\.vault\.azure\.net/(?:keys/)?([A-Za-z0-9-]+)(?:/([0-9a-f]+))?"),
    "gcpkms": re.compile(
        r"(?://)?(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)/(?:cryptoKeyV|v)ersions/([0-9]+)"
    ),
    "hsm": re.compile(r"([0-9]{0,9})(?:\?(.*))?"),
}
# They log failures, securesystemslib to stderr, though each is in the exception that is raised, too.
for _each in ("securesystemslib.signer", "azure", "botocore", "google"):
    logging.getLogger(_each).addHandler(logging.NullHandler())
    logging.getLogger(_each).propagate = False

# A process is logged in to a token or is not, so its signatures take turns.
_TOKENS = Lock()


@dataclass(frozen=True)
class Held:
    """A key that is held elsewhere: the PEM of its public half, and what signs, which raises PublishError."""

    pem: bytes
    sign: Callable[[bytes], bytes]


def is_uri(text: str) -> bool:
    """Whether `text` is no path; raises UsageError for the URI of something else."""
    found = _URI.fullmatch(text)
    scheme = found[1] if found else ""
    if scheme in _FORMS:
        return True
    if scheme in _STRANGE or (found and scheme != "env" and found[2].startswith("//")):
        # Only the scheme: cosign's URIs may have a PIN in them.
        advice = _STRANGE.get(scheme, f"expected a file, env://VARIABLE, or one of {FORMS}")
        raise UsageError(f"{scheme}: found a key's URI of a kind that is not supported\n  {advice}")
    return False


def connect(uri: str, environment: Mapping[str, str], ask: Callable[[str], str]) -> Held:
    """The key behind `uri`. Asks the KMS or HSM for the public half, so it blocks.

    The PIN of an HSM is COSIGN_PKCS11_PIN, else what `ask` returns. What else a provider needs, its library takes from
    the process's own environment, as for any other program. Raises UsageError if the URI is wrong or a library is
    missing, and PublishError if the KMS or HSM fails.
    """
    from securesystemslib.signer import Signer

    place = _place(uri, environment)
    token = uri.startswith("hsm:")
    pin = _pin(uri, environment, ask) if token else ""
    found, public = _import(uri, place, lambda _: pin)
    signer = _asked(uri, lambda: Signer.from_priv_key_uri(found, public, lambda _: pin))
    turn: AbstractContextManager[object] = _TOKENS if token else nullcontext()
    failed: list[PublishError] = []

    def sign(data: bytes) -> bytes:
        with turn:
            if failed and token:  # after a few wrong PINs, a token locks itself
                raise failed[0]
            try:
                return _asked(uri, lambda: bytes.fromhex(signer.sign(data).signature))
            except PublishError as error:
                failed.append(error)
                raise

    return Held(_pem(public), sign)


def public_pem(uri: str, environment: Mapping[str, str]) -> bytes:
    """The PEM of the public half of the key behind `uri`; blocks, and raises, as `connect` does."""

    def ask(prompt: str) -> str:
        raise UsageError(f"{prompt}not known, and the token shows no such key without it\n  set COSIGN_PKCS11_PIN")

    place = _place(uri, environment)
    return _pem(_import(uri, place, lambda _: _pin(uri, environment, ask))[1])


def _pin(uri: str, environment: Mapping[str, str], ask: Callable[[str], str]) -> str:
    return environment.get("COSIGN_PKCS11_PIN") or ask(f"PIN of {uri}: ")


def _place(uri: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What the URI says beside its scheme; raises UsageError if that can't be it."""
    scheme, _, rest = uri.partition(":")
    found = _PLACES[scheme].fullmatch(rest)
    if not found:
        advice = (
            "\n  for another endpoint, set AWS_ENDPOINT_URL_KMS to it"
            if scheme == "awskms" and rest.startswith("//")
            else ""
        )
        raise UsageError(f"{scheme}: found a URI of another form, expected {_FORMS[scheme]}{advice}\n  correct the URI")
    if scheme == "hsm":
        if not environment.get("PYKCS11LIB"):
            raise UsageError(
                f"{uri}: PYKCS11LIB is not set\n"
                "  set it to the path of the HSM's PKCS #11 module, such as /usr/lib/x86_64-linux-gnu/libykcs11.so"
            )
        query = parse_qsl(found[2] or "", keep_blank_values=True)
        if [key for key, _ in query] not in ([], ["label"]):
            raise UsageError(f"hsm: found other parameters, expected {_FORMS['hsm']}\n  correct the URI")
        return found[1], dict(query).get("label", "")
    return tuple(each or "" for each in found.groups())


def _import(uri: str, place: tuple[str, ...], pin: Callable[[str], str]) -> tuple[str, SSlibKey]:
    """The URI as securesystemslib wants it, and the public half."""
    from securesystemslib import signer

    match uri.partition(":")[0]:
        case "awskms":
            return _asked(uri, lambda: signer.AWSSigner.import_(place[0]))
        case "gcpkms":
            return _asked(uri, lambda: signer.GCPSigner.import_(f"{place[0]}/cryptoKeyVersions/{place[1]}"))
        case "hsm":
            number = int(place[0]) if place[0] else None
            return _asked(uri, lambda: signer.HSMSigner.import_(number, place[1] or None, pin))
    found, public = _asked(uri, lambda: signer.AzureSigner.import_(place[0], place[1]))
    if place[2] and found.rpartition("/")[2] != place[2]:
        raise UsageError(
            f"{uri}: the key's current version is {found.rpartition('/')[2]}, and no other can be used\n"
            "  leave the version out of the URI"
        )
    return found, public


def _pem(public: SSlibKey) -> bytes:
    return str(public.keyval["public"]).encode()


def _asked(uri: str, ask: Callable[[], T]) -> T:
    """What `ask` returns; what the provider's library raises becomes one message."""
    from securesystemslib.exceptions import UnsupportedLibraryError

    try:
        return ask()
    except BuildError:
        raise
    except UnsupportedLibraryError as error:
        from importlib.metadata import version

        extra = uri.partition(":")[0]
        raise UsageError(
            f"{uri}: a Python library is missing: {error}\n"
            f"  install it: `.venv/bin/pip install 'securesystemslib[{extra}]=={version('securesystemslib')}'`"
        ) from None
    except Exception as error:  # noqa: BLE001 - each provider has its own, documented nowhere
        said = ": ".join(each for each in (type(error).__name__, indented(str(error))) if each)
        advice = "the environment that the provider's own tools take credentials from"
        if uri.startswith("hsm:"):
            advice = "PYKCS11LIB and the PIN (COSIGN_PKCS11_PIN): after a few wrong ones, a token locks itself"
        raise PublishError(f"{uri}: {said}\n  check the URI, and {advice}") from None
