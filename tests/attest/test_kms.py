"""Keys in an HSM, which SoftHSM is, and the URIs of all others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from build.attest.keys.keys import Signer, read_public, read_signer
from build.errors import BuildError, PublishError, UsageError
from build.report import shown
from tests.support.components import lack, need
from tests.support.keys import Pair, key_pair, openssl

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN, SO_PIN, LABEL = "314159", "271828", "pause release"
DATA = b"what is published"
ROOT = Path(__file__).parent.parent.parent


def never(prompt: str) -> str:
    raise AssertionError(prompt)


@dataclass
class Asked:
    """Answers each prompt with the PIN, and keeps the prompts."""

    prompts: list[str] = field(default_factory=list)

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return PIN


@dataclass(frozen=True)
class Token:
    """A token with keys of ECDSA P-256 (ID 2), P-384 (ID 3) and RSA (ID 4)."""

    pair: Pair
    environment: Mapping[str, str]

    def signer(self, uri: str) -> Signer:
        return read_signer(uri, {**self.environment, "COSIGN_PKCS11_PIN": PIN}, never, Path("/"))


def put(private: Path, number: int) -> None:
    """Import a key into the token, with this ID."""
    words = ["--import", str(private), "--token", LABEL, "--label", str(number), "--id", f"0{number}", "--pin", PIN]
    subprocess.run([need("softhsm2-util", "softhsm2"), *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    tool, folder = need("softhsm2-util", "softhsm2"), tmp_path_factory.mktemp("token")
    try:
        import pkcs11  # noqa: F401
    except ImportError:
        lack("python-pkcs11: no wheel for this machine")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "PYKCS11LIB": str(MODULE)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)

        words = ["--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", SO_PIN]
        subprocess.run([tool, *words], check=True, capture_output=True)
        kinds = [(), ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), ("-algorithm", "RSA")]
        for number, kind in enumerate(kinds, start=2):
            put(key_pair(folder / str(number), *kind).private, number)
        yield Token(Pair(folder / "2/private.pem", folder / "2/public.pem"), environment)


def refused(kind: type[BuildError], uri: str, environment: Mapping[str, str] | None = None) -> str:
    """What is said of a URI that is not taken: one message, without a PIN."""
    with pytest.raises(kind) as raised:
        read_signer(uri, environment or {}, Asked(), Path("/"))
    message = str(raised.value)
    assert shown(message) == message
    assert "\n  " in message
    assert raised.value.__cause__ is None
    assert PIN not in message
    return message


@pytest.mark.parametrize("uri", ["hsm:", "hsm:2", "hsm:?label=pause+release", "hsm:2?label=pause%20release"])
def test_an_hsm_signs(token: Token, uri: str, tmp_path: Path) -> None:
    signer = token.signer(uri)
    assert signer.public == read_public(str(token.pair.public), {}, Path("/"))
    assert signer.public == read_public(uri, {**token.environment, "COSIGN_PKCS11_PIN": PIN}, Path("/"))
    signature = signer.sign(DATA)
    assert signer.public.verify(signature, DATA)
    (tmp_path / "signature").write_bytes(signature)
    openssl("dgst", "-sha256", "-verify", str(token.pair.public), "-signature", str(tmp_path / "signature"), data=DATA)


def test_an_hsm_signs_for_many_at_once(token: Token) -> None:
    signer = token.signer("hsm:")
    with ThreadPoolExecutor(8) as pool:
        assert all(signer.public.verify(each, DATA) for each in pool.map(signer.sign, [DATA] * 32))


def test_the_pin_is_asked_for_once(token: Token) -> None:
    asked = Asked()
    signer = read_signer("hsm:2", token.environment, asked, Path("/"))
    assert signer.sign(DATA)
    assert signer.sign(DATA)
    assert asked.prompts == ["PIN of hsm:2: "]


def test_the_public_half_needs_a_pin_only_where_it_is_hidden(token: Token) -> None:
    assert read_public("hsm:2", token.environment, Path("/"))
    with pytest.raises(UsageError, match=r"^PIN of hsm:9: not known.*\n  set COSIGN_PKCS11_PIN"):
        read_public("hsm:9", token.environment, Path("/"))


def test_a_wrong_pin_is_tried_once(token: Token) -> None:
    """Most tokens lock after three: later signatures fail with the very error of the first."""
    signer = read_signer("hsm:2", {**token.environment, "COSIGN_PKCS11_PIN": "000000"}, never, Path("/"))
    expected = "hsm:2: PinIncorrect\n  check the URI, and PYKCS11LIB and the PIN"
    with pytest.raises(PublishError) as first:
        signer.sign(DATA)
    assert str(first.value).startswith(expected)
    with pytest.raises(PublishError) as second:
        signer.sign(DATA)
    assert second.value is first.value


def test_a_key_that_was_replaced_signs_nothing(token: Token, tmp_path: Path) -> None:
    import pkcs11

    put(key_pair(tmp_path / "old").private, 5)
    signer = token.signer("hsm:5")
    assert signer.sign(DATA)
    with pkcs11.lib(str(MODULE)).get_token(token_label=LABEL).open(rw=True, user_pin=PIN) as session:
        for each in list(session.get_objects({pkcs11.Attribute.ID: b"\x05"})):
            each.destroy()
    put(key_pair(tmp_path / "new").private, 5)
    with pytest.raises(
        PublishError, match=r"^hsm:5: found a signature of something else, expected one of the key sha256:"
    ):
        signer.sign(DATA)
    assert token.signer("hsm:5").public == read_public("new/public.pem", {}, tmp_path)


def test_what_a_token_does_not_have(token: Token) -> None:
    given = token.environment
    assert refused(PublishError, "hsm:9", given).startswith(
        "hsm:9: ValueError: could not find ECDSA key on the PKCS#11"
    )
    assert "could not find ECDSA key" in refused(PublishError, "hsm:4", given)
    assert "No PKCS#11 token found for label other" in refused(PublishError, "hsm:2?label=other", given)
    assert refused(UsageError, "hsm:3", given) == (
        "hsm:3: found a key for ECDSA P-384, expected ECDSA P-256, the only kind that signs here\n"
        "  create one there, and give its URI"
    )


def test_a_module_that_is_not_there(token: Token) -> None:
    """In a process of its own: a process has one module."""
    assert refused(UsageError, "hsm:2") == (
        "hsm:2: PYKCS11LIB is not set\n"
        "  set it to the path of the HSM's PKCS #11 module, such as /usr/lib/x86_64-linux-gnu/libykcs11.so"
    )
    code = (
        "import pathlib; from build.attest.keys.keys import read_signer;"
        "read_signer('hsm:2', {'PYKCS11LIB': '/missing.so'}, str, pathlib.Path('/'))"
    )
    environment = {**token.environment, "PYKCS11LIB": "/missing.so"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "build.errors.PublishError: hsm:2: " in run.stderr
    assert "/missing.so" in run.stderr


@pytest.mark.parametrize(
    ("uri", "extra"),
    [
        ("awskms:alias/release", "awskms"),
        ("awskms:///alias/release", "awskms"),
        ("awskms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "awskms"),
        ("azurekms://vault.vault.azure.net/keys/release", "azurekms"),
        ("azurekms://vault.vault.azure.net/keys/release/0123456789abcdef0123456789abcdef", "azurekms"),
        ("azurekms://vault.vault.azure.net/release", "azurekms"),
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "gcpkms"),
        ("gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/versions/1", "gcpkms"),
    ],
)
def test_a_provider_needs_its_library(uri: str, extra: str) -> None:
    """In securesystemslib's form and in cosign's."""
    message = refused(UsageError, uri)
    assert message.startswith(f"{uri}: a Python library is missing: ")
    assert message.endswith(f"\n  install it: `.venv/bin/pip install 'securesystemslib[{extra}]==1.6.0'`")


def test_an_hsm_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securesystemslib.signer._hsm_signer.PKCS11_IMPORT_ERROR", "'python-pkcs11' required")
    message = refused(UsageError, "hsm:2", {"PYKCS11LIB": str(MODULE)})
    assert message.endswith("\n  install it: `.venv/bin/pip install 'securesystemslib[hsm]==1.6.0'`")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("awskms:", "awskms: found a URI of another form, expected awskms:KEY"),
        ("awskms://localhost:4566/alias/release", "set AWS_ENDPOINT_URL_KMS"),
        ("azurekms:release", "expected azurekms://VAULT.vault.azure.net/keys/NAME"),
        ("azurekms://user:314159@vault.vault.azure.net/keys/release", "expected azurekms://VAULT"),
        ("azurekms://vault.example.org/keys/release", "expected azurekms://VAULT"),
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k", "cryptoKeyVersions/VERSION"),
        ("hsm:two", "ID is a number"),
        ("hsm:2?pin-value=314159", "hsm: found other parameters, expected hsm:ID?label=TOKEN"),
        ("hv:release/1", "hv: found a key's URI of a kind that is not supported\n  Vault: "),
        ("hashivault://release", "Vault: securesystemslib reads only its Ed25519 keys"),
        ("pkcs11:token=any?pin-value=314159", "HSMs are hsm:ID?label=TOKEN"),
        ("k8s://namespace/314159", "expected a file, env://VARIABLE, or one of awskms:, azurekms:, gcpkms:, hsm:"),
        ("https://example.org/314159", "https: found a key's URI of a kind that is not supported"),
    ],
)
def test_uris_that_are_not_understood(uri: str, said: str) -> None:
    assert said in refused(UsageError, uri, {"PYKCS11LIB": str(MODULE)})


def test_paths_are_no_uris(tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    pair.private.rename(tmp_path / "foo:bar")
    pair.public.rename(tmp_path / "hsm:2")
    assert read_signer("foo:bar", {}, never, tmp_path).public == read_public("./hsm:2", {}, tmp_path)
