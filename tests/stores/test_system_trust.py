"""What the system trusts, where Python's own OpenSSL does not look; certs.d and --insecure-registry go with it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
import truststore._openssl

from build.errors import PublishError
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.certificates import Papers, papers
from tests.support.registries import registry

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Papers:
    """A certificate for localhost, by an authority that the system trusts in a file that OpenSSL does not know of."""
    made = papers(tmp_path / "papers", "localhost")
    system = tmp_path / "system.pem"
    shutil.copy(made.authority, system)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(truststore._openssl, "_CA_FILE_CANDIDATES", [str(system)])
    return made


def ask(host: str, access: Access) -> None:
    async def run() -> None:
        store = Registry(host, access)
        try:
            assert await store.digest(Repository.parse(f"{host}/some/one"), "none") is None
        finally:
            await store.close()

    asyncio.run(run())


def access(folder: Path, *insecure: str) -> Access:
    return Access((), (folder / "certs.d",), insecure=insecure, timeout=20)


def test_the_system_s_authorities(tmp_path: Path, here: Papers) -> None:
    with registry(tmp_path / "registry", http={"tls": here.settings}) as host:
        ask(host, access(tmp_path))


def test_an_unknown_authority(tmp_path: Path, here: Papers) -> None:
    other = papers(tmp_path / "other", "localhost")
    assert other.authority.read_bytes() != here.authority.read_bytes()
    with registry(tmp_path / "registry", http={"tls": other.settings}) as host:
        with pytest.raises(PublishError, match="certificate verification failed"):
            ask(host, access(tmp_path))
        ask(host, access(tmp_path, host))


def test_another_name(tmp_path: Path, here: Papers) -> None:
    with registry(tmp_path / "registry", http={"tls": here.settings}) as host:
        address = host.replace("localhost", "127.0.0.1")
        with pytest.raises(PublishError, match="certificate verification failed: IP address mismatch"):
            ask(address, access(tmp_path))


def test_certs_d_beside_the_system_s_authorities(tmp_path: Path, here: Papers) -> None:
    other, ours = papers(tmp_path / "other", "localhost"), papers(tmp_path / "ours", "releaser@example.org")
    with (
        registry(tmp_path / "known", http={"tls": here.settings}) as known,
        registry(tmp_path / "own", http={"tls": {**other.settings, "clientcas": [str(ours.authority)]}}) as own,
    ):
        folder = tmp_path / "certs.d" / own
        folder.mkdir(parents=True)
        files = {"ca.crt": other.authority, "client.cert": ours.certificate, "client.key": ours.key}
        for name, source in files.items():
            shutil.copy(source, folder / name)
        ask(own, access(tmp_path))
        ask(known, access(tmp_path))


def test_ssl_cert_file(tmp_path: Path, here: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    other = papers(tmp_path / "other", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(other.authority))
    assert here
    with registry(tmp_path / "registry", http={"tls": other.settings}) as host:
        ask(host, access(tmp_path))
