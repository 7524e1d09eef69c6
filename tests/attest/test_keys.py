"""Keys in files and environment variables: which are taken, what they sign, and what is said of all others."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from build.attest.keys import cosign as cosign_key
from build.attest.keys import pem
from build.attest.keys.keys import PublicKey, Signer, read_public, read_signer
from build.errors import UsageError
from build.report import shown
from tests.support.cosign import cosign, trusted_root
from tests.support.keys import key_pair, openssl

SECRET = "correct horse"
DATA = b"what is published"
SIZES = ("P-256", "P-384", "P-521")

# RFC 6979, A.2.5: P-256, SHA-256, the message "sample".
RFC_KEY = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
RFC_R = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
RFC_S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8


def never(prompt: str) -> str:
    raise AssertionError(prompt)


def signer_of(key: Path, password: str | None = None) -> Signer:
    return read_signer(str(key), {} if password is None else {"COSIGN_PASSWORD": password}, never, Path("/"))


def refused(text: str | Path, environment: Mapping[str, str] | None = None, *, public: bool = False) -> str:
    """What is said of a key that is not taken: one message, and nothing of the key or its password."""
    given = environment or {}
    read = (
        (lambda: read_public(str(text), given, Path("/")))
        if public
        else (lambda: read_signer(str(text), given, never, Path("/")))
    )
    with pytest.raises(UsageError) as raised:
        read()
    message = str(raised.value)
    assert shown(message) == message
    assert "\n  " in message
    assert raised.value.__cause__ is None
    assert SECRET not in message
    content = text.read_bytes() if isinstance(text, Path) and text.is_file() else b""
    for line in content.splitlines():
        assert b"-----" in line or len(line) < 16 or line.decode(errors="replace") not in message
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def cosigns(folder: Path) -> Path:
    """The cosign.key that cosign makes, whose password is SECRET."""
    made = folder / "cosign"
    made.mkdir()
    cosign("generate-key-pair", env={"COSIGN_PASSWORD": SECRET}, folder=made)
    return made / "cosign.key"


def proved(signer: Signer, public: Path, folder: Path) -> None:
    """OpenSSL and ours agree that `public` verifies what `signer` signs, and nothing else."""
    signature, known = signer.sign(DATA), read_public(str(public), {}, Path("/"))
    assert known == signer.public
    assert signer.sign(DATA) == signature
    assert known.verify(signature, DATA)
    assert not known.verify(signature, DATA + b"!")
    assert not known.verify(signature[:-1] + bytes([signature[-1] ^ 1]), DATA)
    assert not known.verify(b"", DATA)
    (folder / "signature").write_bytes(signature)
    openssl("dgst", "-sha256", "-verify", str(public), "-signature", str(folder / "signature"), data=DATA)


def test_keys_of_openssl(tmp_path: Path) -> None:
    plain = key_pair(tmp_path / "plain")
    proved(signer_of(plain.private), plain.public, tmp_path)
    proved(signer_of(plain.private, "not needed"), plain.public, tmp_path)
    hidden = key_pair(tmp_path / "hidden", password=SECRET)
    proved(signer_of(hidden.private, SECRET), hidden.public, tmp_path)
    assert "password is wrong" in refused(hidden.private, {"COSIGN_PASSWORD": SECRET + "!"})
    assert "password is wrong" in refused(hidden.private, {"COSIGN_PASSWORD": ""})


def test_keys_of_sec_1_encrypted_or_not(tmp_path: Path) -> None:
    plain, hidden, public = tmp_path / "plain.pem", tmp_path / "hidden.pem", tmp_path / "public.pem"
    # With its EC PARAMETERS in front.
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", str(plain))
    assert plain.read_text().startswith("-----BEGIN EC PARAMETERS-----")
    openssl("ec", "-in", str(plain), "-aes256", "-passout", f"pass:{SECRET}", "-out", str(hidden))
    assert "Proc-Type: 4,ENCRYPTED" in hidden.read_text()
    openssl("ec", "-in", str(plain), "-pubout", "-out", str(public))
    proved(signer_of(plain), public, tmp_path)
    proved(signer_of(hidden, SECRET), public, tmp_path)
    assert "password is wrong" in refused(hidden, {"COSIGN_PASSWORD": "wrong"})


def test_keys_of_cryptography(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key, private, public = ec.generate_private_key(ec.SECP256R1()), tmp_path / "private", tmp_path / "public"
    public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    for kind in (form.PrivateFormat.PKCS8, form.PrivateFormat.TraditionalOpenSSL):
        for hiding in (form.NoEncryption(), form.BestAvailableEncryption(SECRET.encode())):
            private.write_bytes(key.private_bytes(form.Encoding.PEM, kind, hiding))
            proved(signer_of(private, SECRET), public, tmp_path)


def test_keys_of_cosign(cosigns: Path, tmp_path: Path) -> None:
    public = cosigns.with_name("cosign.pub")
    proved(signer_of(cosigns, SECRET), public, tmp_path)
    assert signer_of(cosigns, SECRET).public.pem == public.read_bytes()
    assert "password is wrong" in refused(cosigns, {"COSIGN_PASSWORD": "wrong"})
    old = tmp_path / "old.key"
    old.write_text(cosigns.read_text().replace("SIGSTORE", "COSIGN"))
    proved(signer_of(old, SECRET), public, tmp_path)


def test_keys_of_cosign_without_a_password(tmp_path: Path) -> None:
    cosign("generate-key-pair", folder=tmp_path)
    proved(signer_of(tmp_path / "cosign.key", ""), tmp_path / "cosign.pub", tmp_path)


def test_cosign_verifies_what_they_sign(cosigns: Path, tmp_path: Path) -> None:
    signer = signer_of(cosigns, SECRET)
    (tmp_path / "data").write_bytes(DATA)
    signature = base64.b64encode(signer.sign(DATA)).decode()
    (tmp_path / "signature").write_text(signature)
    words = ["verify-blob", "--insecure-ignore-tlog=true", f"--key={cosigns.with_name('cosign.pub')}"]
    cosign(*words, "--signature=signature", "data", folder=tmp_path)
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": signer.public.hint}},
        "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": digest}, "signature": signature},
    }
    (tmp_path / "bundle").write_text(json.dumps(bundle))
    words += ["--new-bundle-format", f"--trusted-root={trusted_root(tmp_path)}", "--bundle=bundle"]
    cosign(*words, "data", folder=tmp_path)
    (tmp_path / "data").write_bytes(DATA + b"!")
    assert cosign(*words, "data", folder=tmp_path, check=False).returncode != 0


def test_hint_is_that_of_cosigns_bundles(cosigns: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA)
    words = ("sign-blob", "--yes", "--tlog-upload=false", "--new-bundle-format", "--bundle=bundle", f"--key={cosigns}")
    cosign(*words, "data", folder=tmp_path, env={"COSIGN_PASSWORD": SECRET})
    bundle = json.loads((tmp_path / "bundle").read_text())
    public = read_public(str(cosigns.with_name("cosign.pub")), {}, Path("/"))
    assert bundle["verificationMaterial"]["publicKey"]["hint"] == public.hint
    assert public.verify(base64.b64decode(bundle["messageSignature"]["signature"]), DATA)
    assert public.fingerprint == f"sha256:{base64.b64decode(public.hint).hex()}"


def test_signatures_are_those_of_rfc_6979(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    key, file = ec.derive_private_key(RFC_KEY, ec.SECP256R1()), tmp_path / "private.pem"
    file.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    assert signer_of(file).sign(b"sample") == encode_dss_signature(RFC_R, RFC_S)


@pytest.mark.parametrize(
    "kind",
    [
        *(("-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{size}") for size in SIZES),
        ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        ("-algorithm", "ED25519"),
    ],
    ids=[*SIZES, "RSA", "Ed25519"],
)
def test_whatever_cosign_verifies_is_verified(kind: tuple[str, ...], tmp_path: Path) -> None:
    """With the same hash, too: SHA-256 for every curve."""
    pair, data, signature = key_pair(tmp_path, *kind), tmp_path / "data", tmp_path / "signature"
    data.write_bytes(DATA)
    how = ["pkeyutl", "-sign", "-rawin"] if "ED25519" in kind else ["dgst", "-sha256"]
    key = ["-inkey", str(pair.private), "-in", str(data)] if "ED25519" in kind else ["-sign", str(pair.private)]
    openssl(*how, *key, "-out", str(signature), *([] if "ED25519" in kind else [str(data)]))
    public = read_public(str(pair.public), {}, Path("/"))
    assert public.verify(signature.read_bytes(), DATA)
    assert not public.verify(signature.read_bytes(), DATA + b"!")
    (tmp_path / "text").write_bytes(base64.b64encode(signature.read_bytes()))
    words = ("verify-blob", "--insecure-ignore-tlog=true", f"--key={pair.public}", "--signature=text", "data")
    cosign(*words, folder=tmp_path)
    if "ED25519" not in kind:
        openssl("dgst", "-sha384", "-sign", str(pair.private), "-out", str(signature), str(data))
        assert not public.verify(signature.read_bytes(), DATA)
        (tmp_path / "text").write_bytes(base64.b64encode(signature.read_bytes()))
        assert cosign(*words, folder=tmp_path, check=False).returncode != 0


def test_pem_of_a_public_key_is_openssls(tmp_path: Path) -> None:
    pair = key_pair(tmp_path)
    assert read_public(str(pair.public), {}, Path("/")).pem == pair.public.read_bytes()


def test_a_compressed_point_is_the_same_key(tmp_path: Path) -> None:
    pair, short = key_pair(tmp_path), tmp_path / "short.pem"
    openssl("ec", "-in", str(pair.private), "-pubout", "-conv_form", "compressed", "-out", str(short))
    assert len(short.read_bytes()) < len(pair.public.read_bytes())
    assert read_public("short.pem", {}, tmp_path) == read_public("public.pem", {}, tmp_path)


def test_files_are_relative_to_the_root_and_may_be_pipes(tmp_path: Path) -> None:
    pair = key_pair(tmp_path / "keys")
    signer = read_signer("keys/private.pem", {}, never, tmp_path)
    assert signer.public == read_public("keys/public.pem", {}, tmp_path)
    reading, writing = os.pipe()
    os.write(writing, pair.private.read_bytes())
    os.close(writing)
    assert read_signer(f"/dev/fd/{reading}", {}, never, tmp_path).public == signer.public
    os.close(reading)


def test_keys_in_the_environment(cosigns: Path) -> None:
    public = cosigns.with_name("cosign.pub").read_text()
    environment = {"KEY": cosigns.read_text(), "PUB": public, "COSIGN_PASSWORD": SECRET}
    signer = read_signer("env://KEY", environment, never, Path("/"))
    assert signer.public == read_public("env://PUB", environment, Path("/"))
    assert refused("env://NONE") == ("env://NONE: the environment variable is not set\n  set it to the PEM of the key")
    assert "is empty" in refused("env://KEY", {"KEY": ""})
    assert refused("env://KEY", {"KEY": SECRET}).startswith("env://KEY: found no PEM block, expected a private key")


def test_the_password_is_asked_for_unless_it_is_set(cosigns: Path, tmp_path: Path) -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return SECRET

    assert read_signer(str(cosigns), {}, ask, Path("/")).sign(DATA)
    assert prompts == [f"password of {cosigns}: "]
    read_signer("env://KEY", {"KEY": cosigns.read_text()}, ask, Path("/"))
    assert prompts[1:] == ["password of env://KEY: "]
    read_signer(str(key_pair(tmp_path).private), {}, ask, Path("/"))
    assert len(prompts) == 2


def test_halves_that_are_mixed_up(cosigns: Path, tmp_path: Path) -> None:
    pair, public = key_pair(tmp_path), cosigns.with_name("cosign.pub")
    assert refused(public) == (
        f"{public}: found a public key, expected the private one\n"
        "  signing takes the file made together with it, such as cosign.key for cosign.pub"
    )
    assert refused(cosigns, public=True) == (
        f"{cosigns}: found a private key, expected the public one: verifying needs no secret\n"
        "  give the file made together with it, such as cosign.pub for cosign.key,"
        " or make it anew: `cosign public-key --key FILE > cosign.pub`"
    )
    assert "`openssl pkey -in FILE -pubout -out public.pem`" in refused(pair.private, public=True)
    both = tmp_path / "both.pem"
    both.write_bytes(pair.public.read_bytes() + pair.private.read_bytes())
    assert signer_of(both).public == read_public(str(both), {}, Path("/"))


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), "ECDSA P-384"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "ECDSA secp256k1"),
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"), "RSA"),
        (("-algorithm", "ED25519"), "Ed25519"),
        (("-algorithm", "X25519"), "X25519"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_only_p256_signs(kind: tuple[str, ...], called: str, tmp_path: Path) -> None:
    private = key_pair(tmp_path, *kind).private
    assert refused(private).startswith(f"{private}: found a key for {called}, expected ECDSA P-256")


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "ECDSA secp256k1"),
        (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"), "RSA of 1024 bits"),
        (("-algorithm", "ED448"), "Ed448"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_keys_that_cosign_does_not_know_verify_nothing(kind: tuple[str, ...], called: str, tmp_path: Path) -> None:
    public = key_pair(tmp_path, *kind).public
    message = refused(public, public=True)
    assert message.startswith(
        f"{public}: found a key for {called}, expected ECDSA P-256, ECDSA P-384, ECDSA P-521, RSA or Ed25519\n"
    )


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    missing, large, other = tmp_path / "missing", tmp_path / "large", tmp_path / "other"
    assert (
        refused(missing) == f"{missing}: can't be read: No such file or directory\n  check the path of the key's file"
    )
    assert refused(tmp_path) == (f"{tmp_path}: found a folder, expected the file of a key\n  add the name of the file")
    assert "can't be read: Input/output error" in refused("/proc/self/mem")
    large.write_bytes(b"a" * (pem.LIMIT + 1))
    assert f"found more than {pem.LIMIT} bytes" in refused(large)
    assert f"found more than {pem.LIMIT} bytes" in refused("/dev/zero")
    assert "found an empty name" in refused("")
    for content in (b"", SECRET.encode(), b"\x00\xff" * 99, openssl("genpkey", "-algorithm", "RSA", "-outform", "DER")):
        other.write_bytes(content)
        assert refused(other).startswith(f"{other}: found no PEM block, expected a private key as PEM\n  make one with")
        assert refused(other, public=True).startswith(f"{other}: found no PEM block, expected a public key as PEM\n")


def test_pem_of_something_else(tmp_path: Path) -> None:
    pair, other = key_pair(tmp_path), tmp_path / "other"
    words = ("req", "-x509", "-key", str(pair.private), "-subj", "/CN=any", "-out", str(other))
    openssl(*words)
    assert refused(other).startswith(f"{other}: found CERTIFICATE, expected a private key as PEM")
    assert "`openssl x509 -pubkey -noout -in FILE > public.pem`" in refused(other, public=True)
    other.write_bytes(pair.private.read_bytes() * 2)
    assert "found 2 private keys, expected one" in refused(other)


@pytest.mark.parametrize("label", [*pem.PRIVATE, *pem.PUBLIC])
@pytest.mark.parametrize("body", ["", "AAAA", "!!!!", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQ=="])
def test_damaged_keys(label: str, body: str, tmp_path: Path) -> None:
    file, public = tmp_path / "damaged", label in pem.PUBLIC
    file.write_text(f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    assert "damaged" in refused(file, {"COSIGN_PASSWORD": SECRET}, public=public)


def test_a_key_in_place_of_a_path_is_not_shown(cosigns: Path, tmp_path: Path) -> None:
    for key in (key_pair(tmp_path).private, cosigns):
        for text in (key.read_text(), key.read_text().replace("\n", " ")):
            for public in (False, True):
                message = refused(text, public=public)
                assert message.startswith("key: found the text of a key")
                assert key.read_text().splitlines()[1] not in message


def changed(cosigns: Path, file: Path, **changes: Any) -> Path:
    """cosign's key with members of its JSON replaced: `kdf_params_N` is N of the parameters of the KDF."""
    lines = cosigns.read_text().strip().splitlines()
    document = json.loads(base64.b64decode("".join(lines[1:-1])))
    for path, value in changes.items():
        *parents, last = path.split("_")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    body = base64.b64encode(json.dumps(document).encode()).decode()
    file.write_text(f"{lines[0]}\n{body}\n{lines[-1]}\n")
    return file


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"kdf_params_N": 1 << 30}, "scrypt with N=1073741824, r=8, p=1"),
        ({"kdf_params_r": 1 << 40}, "scrypt with N=65536, r=1099511627776, p=1"),
        ({"kdf_params_p": 1 << 20}, "scrypt with N=65536, r=8, p=1048576"),
        ({"kdf_params_N": 65535}, "scrypt with N=65535"),
        ({"kdf_params_N": 1}, "scrypt with N=1,"),
        ({"kdf_params_N": 0}, "scrypt with N=0"),
        ({"kdf_params_p": -1}, "p=-1"),
        ({"kdf_params_N": True}, "scrypt with N=True"),
        ({"kdf_params_N": 65536.0}, "scrypt with N=65536.0"),
        ({"kdf_params_N": "x" * 9999}, "scrypt with N='xxx"),
        ({"kdf_params_N": 10**4000}, "scrypt with N=1000000"),
        ({"kdf_params": []}, "something damaged"),
        ({"kdf": None}, "something damaged"),
        ({"kdf_name": "pbkdf2"}, "pbkdf2 and nacl/secretbox"),
        ({"kdf_name": [1]}, "[1] and nacl/secretbox"),
        ({"cipher_name": "none"}, "scrypt and none"),
        ({"cipher_nonce": "AAAA"}, "a nonce of 3 bytes"),
        ({"cipher_nonce": "é"}, "something damaged"),
        ({"ciphertext": 1}, "something damaged"),
        ({"ciphertext": ""}, "the password is wrong, or the file is damaged"),
    ],
)
def test_hostile_keys_of_cosign(cosigns: Path, changes: dict[str, Any], found: str, tmp_path: Path) -> None:
    file = changed(cosigns, tmp_path / "changed.key", **changes)
    message = refused(file, {"COSIGN_PASSWORD": SECRET})
    assert found in message
    assert len(message) < 500


def test_deep_json_in_a_key_of_cosign(tmp_path: Path) -> None:
    file, mark = tmp_path / "deep.key", pem.COSIGN[0]
    body = base64.b64encode(b"[" * 100_000).decode()
    file.write_text(f"-----BEGIN {mark}-----\n{body}\n-----END {mark}-----\n")
    assert "something damaged" in refused(file, {"COSIGN_PASSWORD": SECRET})


def test_the_largest_cost_that_is_allowed_works(cosigns: Path, tmp_path: Path) -> None:
    """A quarter of a GiB: the password is then wrong, as the key is derived otherwise."""
    largest = cosign_key.MOST_MEMORY // 128 // 8
    file = changed(cosigns, tmp_path / "changed.key", kdf_params_N=largest)
    assert "password is wrong" in refused(file, {"COSIGN_PASSWORD": SECRET})


def test_other_keys_of_cosign_are_decrypted_but_do_not_sign(tmp_path: Path) -> None:
    private = key_pair(tmp_path, "-algorithm", "ED25519").private
    words = ("import-key-pair", f"--key={private}", "--output-key-prefix=imported", "--yes")
    cosign(*words, env={"COSIGN_PASSWORD": SECRET}, folder=tmp_path)
    file = tmp_path / "imported.key"
    message = refused(file, {"COSIGN_PASSWORD": SECRET})
    assert message.startswith(f"{file}: found a key for Ed25519, expected ECDSA P-256")


def test_missing_libraries(cosigns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl.secret", None)
    assert "`.venv/bin/pip install pynacl`" in refused(cosigns, {"COSIGN_PASSWORD": SECRET})
    monkeypatch.setitem(sys.modules, "cryptography", None)
    public = cosigns.with_name("cosign.pub")
    for message in (refused(cosigns), refused(public, public=True)):
        assert "`.venv/bin/pip install cryptography`" in message
    with pytest.raises(UsageError, match="cryptography can't be loaded"):
        PublicKey(b"").verify(b"", b"")
