"""Through a proxy, and past it: which variable says what, for which host, and what becomes of the proxy's password."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from build.errors import PublishError
from build.stores.http.access import Access
from build.stores.http.proxies import proxy_for
from tests.support.certificates import Papers, certs_d, papers
from tests.support.checkout import Checkout
from tests.support.forward_proxy import Proxy, proxy
from tests.support.registries import registry
from tests.support.secrecy import Secrets

# Nobody but the proxy knows where these are: RFC 6761 keeps .test from ever being resolved.
NAME, PLAIN = "registry.test", "plain.test:5000"
USER, PASSWORD = "site user", "p@ss/w:rd %41 €"
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"

pytestmark = pytest.mark.usefixtures("secrets")


@pytest.fixture
def named(tmp_path: Path) -> Papers:
    return papers(tmp_path / "papers", NAME)


@pytest.fixture
def site(tmp_path: Path, checkout: Checkout, named: Papers) -> Iterator[Proxy]:
    """A proxy that leads to a registry with TLS, whose authority the user's Docker knows, and to one without."""
    (certs_d(checkout, NAME) / "ca.crt").write_bytes(named.authority.read_bytes())
    with (
        registry(tmp_path / "tls", http={"tls": named.settings}) as tls,
        registry(tmp_path / "plain") as plain,
        proxy({f"{NAME}:443": tls, PLAIN: plain}) as made,
    ):
        yield made


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_https(checkout: Checkout, site: Proxy, variable: str) -> None:
    run = checkout("all-push", REGISTRY=NAME, **{variable: f"http://{site.host}"})
    assert f"{NAME}/pause:3.1" in run.digests
    assert set(site.asked) == {f"CONNECT {NAME}:443"}


def test_an_address_without_http(checkout: Checkout, site: Proxy) -> None:
    checkout("push", REGISTRY=NAME, HTTPS_PROXY=site.host)
    assert site.asked


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_plain_http(checkout: Checkout, site: Proxy, variable: str) -> None:
    checkout("push", "--insecure-registry", PLAIN, REGISTRY=PLAIN, **{variable: f"http://{site.host}"}, TIMEOUT="20")
    assert f"PUT http://{PLAIN}/v2/pause-amd64/manifests/3.1" in site.asked


def test_the_other_variable_says_nothing(checkout: Checkout, site: Proxy) -> None:
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTP_PROXY=f"http://{site.host}", TIMEOUT="1")
    assert "proxy" not in message
    assert site.asked == []


def test_a_proxy_with_a_password(checkout: Checkout, site: Proxy, secrets: Secrets) -> None:
    secrets.add(PASSWORD, USER)
    site.login = f"{USER}:{PASSWORD}"
    address = f"http://{LOGIN}@{site.host}"
    checkout("push", REGISTRY=NAME, HTTPS_PROXY=address)
    checkout("push", "--insecure-registry", PLAIN, REGISTRY=PLAIN, HTTP_PROXY=address)

    site.login = "another:user"
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY=address)
    assert f"through the proxy http://{site.host}: " in message
    assert "407" in message
    assert "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT" in message
    message = checkout.refuses(1, "push", "--insecure-registry", PLAIN, REGISTRY=PLAIN, HTTP_PROXY=address)
    assert "407" in message
    assert "HTTP_PROXY=http://USER:PASSWORD@HOST:PORT" in message


@pytest.mark.parametrize("address", [f"http://{USER}:{PASSWORD}@localhost:1", "http://user:p/w@localhost:1", "http://"])
def test_a_password_that_is_not_escaped(checkout: Checkout, address: str, secrets: Secrets) -> None:
    secrets.add(PASSWORD, USER)
    secrets.add("p/w")
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY=address)
    assert "HTTPS_PROXY: found no address of a proxy" in message
    assert "%2F" in message


def test_a_proxy_of_another_kind(checkout: Checkout) -> None:
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY="socks4://localhost:1080")
    assert "HTTPS_PROXY: found no address of a proxy, expected http://" in message


def test_a_proxy_that_refuses(checkout: Checkout, site: Proxy) -> None:
    site.refuses = 403
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY=f"http://{site.host}")
    assert f"https://{NAME}/v2/pause-amd64/manifests/3.1 through the proxy http://{site.host}: " in message
    assert "403" in message
    assert "tried" not in message


def test_a_proxy_that_is_down(checkout: Checkout, site: Proxy, secrets: Secrets) -> None:
    secrets.add(PASSWORD, USER)
    address = f"http://{LOGIN}@localhost:1"
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY=address, TIMEOUT="1")
    assert "through the proxy http://localhost:1: " in message
    assert "refused" in message
    assert site.asked == []


def test_a_certificate_that_is_not_believed_behind_a_proxy(checkout: Checkout, site: Proxy) -> None:
    (certs_d(checkout, NAME) / "ca.crt").unlink()
    address = f"http://{site.host}"
    message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY=address)
    assert "certificate verification failed" in message
    assert f"certs.d/{NAME}/ca.crt" in message
    run = checkout("push", "--insecure-registry", NAME, REGISTRY=NAME, HTTPS_PROXY=address)
    assert "Warning" not in run.stderr


def test_a_proxy_that_speaks_tls(checkout: Checkout, tmp_path: Path, site: Proxy) -> None:
    here = papers(tmp_path / "proxy", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(here.certificate, here.key)
    with proxy(site.hosts, f"{USER}:{PASSWORD}", context) as between:
        address = f"https://{LOGIN}@{between.host}"
        message = checkout.refuses(1, "push", REGISTRY=NAME, HTTPS_PROXY=address)
        assert "certificate verification failed" in message
        assert between.host in message
        checkout("push", REGISTRY=NAME, HTTPS_PROXY=address, SSL_CERT_FILE=str(here.authority))
        assert between.asked


def test_no_proxy_for_loopback(checkout: Checkout, tmp_path: Path, site: Proxy) -> None:
    address = f"http://{site.host}"
    with registry(tmp_path / "registry") as host:
        checkout("push", REGISTRY=host, HTTP_PROXY=address, HTTPS_PROXY=address)
    assert site.asked == []


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_no_proxy(checkout: Checkout, site: Proxy, variable: str) -> None:
    environment = {"HTTPS_PROXY": f"http://{site.host}", variable: f"else.test, {NAME}", "TIMEOUT": "1"}
    message = checkout.refuses(1, "push", REGISTRY=NAME, **environment)
    assert "proxy" not in message
    assert site.asked == []


@pytest.mark.parametrize(
    ("rules", "url"),
    [
        ("*", "https://a.test/"),
        ("x.test, *", "https://a.test/"),
        ("a.test", "https://a.test/"),
        ("A.Test", "https://a.test:5000/"),
        ("a.test:443", "https://a.test/"),
        ("a.test:80", "http://a.test/"),
        ("a.test:5000", "https://a.test:5000/"),
        ("test", "https://b.a.test/"),
        (".test", "https://a.test/"),
        ("*.a.test", "https://b.a.test/"),
        ("192.0.2.7", "https://192.0.2.7:5000/"),
        ("192.0.2.0/24", "https://192.0.2.7/"),
        ("2001:db8::/32", "https://[2001:db8::1]:5000/"),
        ("2001:db8::1", "https://[2001:db8:0::1]/"),
        ("[2001:db8::1]:443", "https://[2001:db8::1]/"),
    ],
)
def test_hosts_that_no_proxy_names(rules: str, url: str) -> None:
    assert proxy_for(Access(proxies={"http": "proxy.test", "https": "proxy.test", "no": rules}), url) is None


@pytest.mark.parametrize(
    ("rules", "url"),
    [
        ("", "https://a.test/"),
        (" , ", "https://a.test/"),
        ("b.test", "https://a.test/"),
        ("a.test:80", "https://a.test/"),
        ("a.test:5000", "https://a.test/"),
        ("a.test", "https://aa.test/"),
        (".a.test", "https://a.test/"),
        ("*.a.test", "https://a.test/"),
        ("192.0.2.0/24", "https://192.0.3.7/"),
        ("192.0.2.0/24", "https://[2001:db8::1]/"),
        ("2", "https://192.0.2.2/"),
    ],
)
def test_hosts_that_no_proxy_does_not_name(rules: str, url: str) -> None:
    found = proxy_for(Access(proxies={"https": "proxy.test:3128", "no": rules}), url)
    assert found
    assert found == "http://proxy.test:3128"


@pytest.mark.parametrize("value", ["http://", "http://[::1", "proxy.test:port", "ftp://a", "://"])
def test_values_that_are_no_proxy(value: str) -> None:
    with pytest.raises(PublishError, match="HTTPS_PROXY"):
        proxy_for(Access(proxies={"https": value}), "https://a.test/")
