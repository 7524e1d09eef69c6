"""The private key and its password are nowhere: not in what a run says or writes, nor in what it starts."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.support.checkout import Checkout
from tests.support.components import need
from tests.support.cosign import cosign
from tests.support.keys import Pair, key_pair, openssl
from tests.support.registries import Recorder
from tests.support.secrecy import Secrets

PASSWORD = f"correct-{os.urandom(8).hex()}"  # in no file


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("encrypted")
    cosign("generate-key-pair", env={"COSIGN_PASSWORD": PASSWORD}, folder=folder)
    return Pair(folder / "cosign.key", folder / "cosign.pub")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return key_pair(tmp_path_factory.mktemp("plain"))


def scalar(private: Path) -> bytes:
    """The secret number of the key."""
    text = openssl("pkey", "-in", str(private), "-text", "-noout").decode()
    found = re.search(r"priv:\s+([0-9a-f:\s]+?)\npub", text)
    assert found
    return bytes.fromhex(re.sub(r"[:\s]", "", found[1])).rjust(32, b"\0")[-32:]


def add_key(secrets: Secrets, plain: Pair) -> list[bytes]:
    """Remember the key in the forms in which it can be written; returns them."""
    number = scalar(plain.private)
    lines = [line for line in plain.private.read_text().splitlines() if "-----" not in line]
    for text in (*lines, number.hex(), str(int.from_bytes(number, "big"))):
        secrets.add(text)
    return [number, *(line.encode() for line in lines), base64.b64encode(number)]


def written(checkout: Checkout) -> Iterator[tuple[Path, bytes]]:
    """What is in the files of the checkout, of its home, and of its folder for temporary files."""
    for folder in (checkout.root, checkout.side):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def in_files(checkout: Checkout, secrets: list[bytes]) -> list[Path]:
    return [path for path, data in written(checkout) if any(each in data for each in secrets)]


@pytest.mark.parametrize("words", [["--verbose"], ["--json"], ["--json", "--verbose", "--overwrite"]])
def test_a_key_in_a_file(
    checkout: Checkout, recorder: Recorder, plain: Pair, secrets: Secrets, words: list[str]
) -> None:
    forms = add_key(secrets, plain)
    checkout("all-push", *words, REGISTRY=recorder.host, SIGN_KEY=str(plain.private))
    assert in_files(checkout, forms) == []


def test_a_key_in_the_environment(checkout: Checkout, recorder: Recorder, plain: Pair, secrets: Secrets) -> None:
    forms = add_key(secrets, plain)
    given = {"REGISTRY": recorder.host, "SIGN_KEY": "env://PEM", "PEM": plain.private.read_text()}
    checkout("all-push", "--verbose", **given)
    checkout("check", "--json", REGISTRY=recorder.host, VERIFY_KEY="env://PUBLIC", PUBLIC=plain.public.read_text())
    # Given in the place of its name, it is not shown either.
    checkout.refuses(2, "all-push", REGISTRY=recorder.host, SIGN_KEY=plain.private.read_text())
    checkout.refuses(2, "check", REGISTRY=recorder.host, VERIFY_KEY=plain.private.read_text())
    assert in_files(checkout, forms) == []


def test_a_key_with_a_password(checkout: Checkout, recorder: Recorder, encrypted: Pair, secrets: Secrets) -> None:
    secrets.add(PASSWORD)
    given = {"REGISTRY": recorder.host, "SIGN_KEY": str(encrypted.private)}
    checkout("all-push", "--verbose", **given, COSIGN_PASSWORD=PASSWORD)
    assert in_files(checkout, [PASSWORD.encode()]) == []


@pytest.mark.parametrize("kind", ["cosign", "PKCS #8"])
def test_a_wrong_password_is_one_message(
    checkout: Checkout, encrypted: Pair, secrets: Secrets, tmp_path: Path, kind: str
) -> None:
    private = encrypted.private
    if kind != "cosign":
        private = key_pair(tmp_path / "other", password=PASSWORD).private
    wrong = secrets.add(f"wrong-{os.urandom(8).hex()}")
    given = {"REGISTRY": "localhost:1", "SIGN_KEY": str(private)}
    message = checkout.refuses(2, "all-push", **given, COSIGN_PASSWORD=wrong)
    assert message.startswith(f"{private}: can't be decrypted: the password is wrong")
    assert "COSIGN_PASSWORD" in message
    message = checkout.refuses(2, "all-push", **given)
    assert "no terminal to ask on" in message


def of_children(process: subprocess.Popen[str], seen: dict[int, tuple[bytes, bytes]]) -> None:
    """Note the command lines and environments of what `process` has started."""
    found = {process.pid}
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit():
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has ended
            continue
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    for pid in found - {process.pid}:
        try:
            said = Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if said[0]:
            seen[pid] = said


@pytest.mark.parametrize("kind", ["file with a password", "environment"])
def test_what_is_started_does_not_know_it(
    checkout: Checkout, recorder: Recorder, encrypted: Pair, plain: Pair, tmp_path: Path, kind: str
) -> None:
    """git, which notes its own environment here, and the compilers, which are watched."""
    noted = tmp_path / "noted"
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(f'#!/bin/sh\n{{ env; echo "$@"; }} >> {noted}\nexec {need("git", "git")} "$@"\n')
    (tools / "git").chmod(0o755)
    given = {"SIGN_KEY": str(encrypted.private), "COSIGN_PASSWORD": PASSWORD, "COSIGN_PKCS11_PIN": PASSWORD}
    secrets = [PASSWORD.encode()]
    if kind == "environment":
        given = {"SIGN_KEY": "env://PEM", "PEM": plain.private.read_text()}
        secrets = [line.encode() for line in plain.private.read_text().splitlines() if "-----" not in line]
    path = f"{tools}:{os.environ['PATH']}"
    process = checkout.start("all-push", REGISTRY=recorder.host, PATH=path, **given)
    seen: dict[int, tuple[bytes, bytes]] = {}
    over = Event()

    def watch() -> None:
        while not over.is_set():
            of_children(process, seen)

    watching = Thread(target=watch)
    watching.start()
    try:
        _, stderr = process.communicate(timeout=120)
    finally:
        over.set()
        watching.join()
        process.kill()
    assert process.returncode == 0, stderr
    told = noted.read_bytes()
    assert b"rev-parse" in told or b"log" in told
    assert any(b"zig" in command for command, _ in seen.values())
    assert [each[:8] for each in secrets if each in told] == []
    for command, environment in seen.values():
        assert not any(each in command or each in environment for each in secrets), command
