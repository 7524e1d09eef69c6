"""As long as there is time, a registry that is busy, restarting or away for a while is no failure."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.reference import Repository
from build.stores.http import retries
from build.stores.http.access import Access
from build.stores.http.failures import TRIES
from build.stores.http.retries import retry_after
from build.stores.registry.registry import Registry
from tests.support import faults
from tests.support.checkout import Checkout
from tests.support.components import lack, need
from tests.support.faults import Fault, Faulty, answering, faulty, matching
from tests.support.registries import registry

BLOB = Blob.of("application/octet-stream", b"small")


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.01)
    with registry(tmp_path / "registry") as host, faulty(host) as made:
        yield made


def push(host: str, timeout: float = 60) -> None:
    """Push a blob."""

    async def push() -> None:
        store = Registry(host, Access(timeout=timeout))
        await store.put_blob(Repository.parse(f"{host}/some/one"), BLOB)
        await store.close()

    asyncio.run(push())


AWAY: dict[str, Fault] = {
    "reset": faults.refused,
    "the answer is lost": faults.lost,
    "cut": faults.cut_in_headers,
    **{str(status): answering(status) for status in (408, 429, 500, 501, 502, 503, 504)},
}


@pytest.mark.parametrize("fault", AWAY)
def test_more_often_than_a_fault_that_stays(proxy: Faulty, fault: str) -> None:
    proxy.follow(matching(AWAY[fault], "POST", "/blobs/uploads/", times=3 * TRIES))
    push(proxy.host)
    assert proxy.spoilt == 3 * TRIES


def test_a_registry_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts only after connections were refused many times, of which the user is told once."""
    refused: list[object] = []
    told: list[str] = []
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(retries, "_PATIENCE", 0)
    monkeypatch.setattr(retries, "trace_retry", lambda *seen: refused.append(seen))
    with closing(socket.socket()) as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]

    async def push() -> None:
        store = Registry(f"localhost:{port}", Access(timeout=60, report=lambda event: told.append(str(event))))
        pushing = asyncio.create_task(store.put_blob(Repository.parse(f"localhost:{port}/some/one"), BLOB))
        while len(refused) < 3 * TRIES:
            assert not pushing.done()
            await asyncio.sleep(0.01)
        with registry(tmp_path / "registry", http={"addr": f"127.0.0.1:{port}"}):
            assert await pushing == BLOB.size
            await store.close()

    asyncio.run(push())
    assert len(told) == 1
    assert "Connection refused: retrying for " in told[0]


def test_what_is_not_spent_on_requests_does_not_count(proxy: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compilers, verify and pulls of a toolchain may take longer than all requests."""
    passed = 0.0
    monkeypatch.setattr(retries, "monotonic", lambda: monotonic() + passed)

    async def twice() -> None:
        nonlocal passed
        store, repository = Registry(proxy.host, Access(timeout=30)), Repository.parse(f"{proxy.host}/some/one")
        assert await store.digest(repository, "none") is None
        passed += 1000
        await store.put_blob(repository, BLOB)
        await store.close()

    asyncio.run(twice())


def test_the_last_word_is_the_registrys(proxy: Faulty) -> None:
    """Not that the deadline cut the last try off."""
    proxy.follow(matching(answering(503, "UNAVAILABLE", "migrating"), "POST", "/blobs/uploads/"))
    with pytest.raises(
        PublishError, match=r"503 UNAVAILABLE: migrating \(tried \d+ times in 1 s\)\n  timed out: --timeout 1 "
    ):
        push(proxy.host, timeout=1)


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 2046 00:00:00 +99999999",
        "Mon, 01 Jan 9999 23:59:59 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 99 Jan 2046 00:00:00 GMT",
        "Mon, 01 Jan 2046 00:00:00 -" + "9" * 5000,
        "-1",
        "1e9",
        "1.5",
        "\u0661",
        "soon",
        "",
        "," * 100,
    ],
)
def test_retry_after_may_be_anything(value: str) -> None:
    assert (retry_after(value) or 0) >= 0


def test_a_retry_after_of_no_meaning(proxy: Faulty) -> None:
    strange = answering(503, Retry_After="Mon, 01 Jan 2046 00:00:00 +99999999")
    proxy.follow(matching(strange, "POST", "/blobs/uploads/", times=2))
    push(proxy.host)


@pytest.fixture
def name_server(tmp_path: Path) -> Iterator[tuple[socket.socket, list[str]]]:
    """A name server that never answers, and the beginning of a command that has no other."""
    settings = tmp_path / "resolv.conf"
    address = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"  # other tests run beside this one
    settings.write_text(f"nameserver {address}\noptions timeout:30\n")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    prefix = [need("unshare", "util-linux"), "--mount", "sh", "-c", script, str(settings)]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        lack("no mount namespaces: this needs root")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind((address, 53))
        server.settimeout(60)
        yield server, prefix


@pytest.mark.parametrize(("timeout", "status"), [(2, 1), (300, 130)], ids=["deadline", "Ctrl-C"])
def test_a_name_server_that_never_answers(
    checkout: Checkout, name_server: tuple[socket.socket, list[str]], timeout: int, status: int
) -> None:
    checkout("container")
    server, prefix = name_server
    command = [*prefix, sys.executable, "-m", "invoke", "push", "--timeout", str(timeout)]
    environment = checkout.environment(REGISTRY="registry.test/team")
    with subprocess.Popen(command, cwd=checkout.root, env=environment, stderr=subprocess.PIPE, text=True) as process:
        server.recv(512)
        if status == 130:
            process.send_signal(signal.SIGINT)
        try:
            _, words = process.communicate(timeout=20)  # less than the resolver takes
        finally:
            process.kill()
    assert process.returncode == status
    assert ("timed out: --timeout 2 (seconds)" if status == 1 else "push: interrupted") in words
