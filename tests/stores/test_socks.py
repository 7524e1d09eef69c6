"""SOCKS proxies: for HTTPS and plain HTTP, with a password and without; names are resolved by the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from build.errors import PublishError
from build.oci.descriptor import Blob
from build.oci.reference import Repository
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from build.stores.store import SMALL
from tests.support.certificates import certs_d, papers
from tests.support.checkout import Checkout
from tests.support.registries import registry
from tests.support.secrecy import Secrets
from tests.support.socks_proxy import IPV4, IPV6, NAME, Socks, socks

# Only the proxy knows where these are: RFC 6761 and RFC 5737, RFC 3849.
TLS, PLAIN = "registry.test", "plain.test:5000"
ADDRESS4, ADDRESS6 = "192.0.2.7:5000", "[2001:db8::7]:5000"
USER, PASSWORD = "site user", "p@ss/w:rd %41 €"
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
SCHEMES = pytest.mark.parametrize("scheme", ["socks5", "socks5h"])


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder certs.d with the authority of the registry that speaks TLS."""
    folder = tmp_path / "certs.d" / TLS
    folder.mkdir(parents=True)
    return folder.parent


@pytest.fixture
def site(tmp_path: Path, certificates: Path) -> Iterator[Socks]:
    """A proxy that leads to a registry with TLS and to one without."""
    here = papers(tmp_path / "papers", TLS)
    (certificates / TLS / "ca.crt").write_bytes(here.authority.read_bytes())
    with (
        registry(tmp_path / "tls", http={"tls": here.settings}) as tls,
        registry(tmp_path / "plain") as plain,
        socks({f"{TLS}:443": tls, PLAIN: plain, ADDRESS4: plain, ADDRESS6: plain}) as made,
    ):
        yield made


def there_and_back(host: str, proxy: str, certificates: Path, spool: Path, timeout: float = 20) -> None:
    """Push a large blob and pull it again."""
    insecure, proxies = () if host == TLS else (host,), {"https": proxy, "http": proxy}
    access = Access((), (certificates,), proxies, insecure, timeout)
    blob = Blob.of("application/octet-stream", bytes(SMALL) + host.encode())

    async def run() -> bytes:
        store, repository = Registry(host, access), Repository.parse(f"{host}/some/one")
        try:
            await store.put_blob(repository, blob)
            return (await store.blob(repository, blob.descriptor(), spool)).data
        finally:
            await store.close()

    assert asyncio.run(run()) == blob.data


@SCHEMES
@pytest.mark.parametrize("login", ["", f"{USER}:{PASSWORD}"])
@pytest.mark.parametrize(("host", "asked"), [(TLS, f"{TLS}:443"), (PLAIN, PLAIN)])
def test_names_are_resolved_by_the_proxy(
    site: Socks, certificates: Path, tmp_path: Path, scheme: str, login: str, host: str, asked: str
) -> None:
    site.login = login
    there_and_back(host, f"{scheme}://{LOGIN + '@' if login else ''}{site.host}", certificates, tmp_path)
    assert set(site.asked) == {(NAME, asked)}


@SCHEMES
@pytest.mark.parametrize(("host", "kind"), [(ADDRESS4, IPV4), (ADDRESS6, IPV6)])
def test_addresses(site: Socks, certificates: Path, tmp_path: Path, scheme: str, host: str, kind: int) -> None:
    there_and_back(host, f"{scheme}://{site.host}", certificates, tmp_path)
    assert set(site.asked) == {(kind, host)}


def refused(site: Socks, certificates: Path, tmp_path: Path, proxy: str, host: str = TLS, timeout: float = 20) -> str:
    with pytest.raises(PublishError) as raised:
        there_and_back(host, proxy, certificates, tmp_path, timeout)
    told = str(raised.value)
    assert f"://{host}/v2/" in told
    assert f" through the proxy socks5h://{site.host}: " in told
    assert "Traceback" not in told
    for secret in (PASSWORD, LOGIN, USER):
        assert secret not in told
    return told


@pytest.mark.parametrize(("host", "variable"), [(TLS, "HTTPS_PROXY"), (PLAIN, "HTTP_PROXY")])
def test_a_wrong_password(site: Socks, certificates: Path, tmp_path: Path, host: str, variable: str) -> None:
    site.login = "another:user"
    told = refused(site, certificates, tmp_path, f"socks5h://{LOGIN}@{site.host}", host)
    assert "the proxy refuses: Invalid username/password" in told
    assert f"{variable}=socks5h://USER:PASSWORD@HOST:PORT" in told
    assert "tried" not in told


def test_a_password_that_is_missing(site: Socks, certificates: Path, tmp_path: Path) -> None:
    site.login = "another:user"
    told = refused(site, certificates, tmp_path, f"socks5h://{site.host}")
    assert "HTTPS_PROXY=socks5h://USER:PASSWORD@HOST:PORT" in told
    assert "tried" not in told


def test_a_host_that_the_proxy_does_not_reach(site: Socks, certificates: Path, tmp_path: Path) -> None:
    site.reply = 4
    told = refused(site, certificates, tmp_path, f"socks5h://{site.host}", timeout=1)
    assert "Host unreachable" in told
    assert "--timeout 1 (seconds)" in told


@pytest.mark.parametrize("noise", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05", b"\x05\x02\x05\x00"])
def test_what_is_no_socks_proxy(site: Socks, certificates: Path, tmp_path: Path, noise: bytes) -> None:
    site.noise = noise
    told = refused(site, certificates, tmp_path, f"socks5h://{site.host}", timeout=1)
    assert "--timeout 1 (seconds)" in told
    assert "\n" not in told.partition("\n  timed out")[0]


def test_a_proxy_whose_name_is_wrong(site: Socks, certificates: Path, tmp_path: Path) -> None:
    site.host = "proxy.invalid:1080"
    told = refused(site, certificates, tmp_path, f"socks5h://{site.host}")
    assert "no such host" in told
    assert "check the spelling of proxy.invalid:1080" in told


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_the_variable(checkout: Checkout, site: Socks, certificates: Path, secrets: Secrets, variable: str) -> None:
    secrets.add(PASSWORD, USER)
    site.login = f"{USER}:{PASSWORD}"
    (certs_d(checkout, TLS) / "ca.crt").write_bytes((certificates / TLS / "ca.crt").read_bytes())
    checkout("push", REGISTRY=TLS, **{variable: f"socks5h://{LOGIN}@{site.host}"})
    assert set(site.asked) == {(NAME, f"{TLS}:443")}
