"""Whose certificates are believed, what may go in the open, and what each refusal tells the user to do."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
import trustme

from build.stores.http.access import Access
from build.stores.http.tls import tls_context
from build.stores.http.urls import is_loopback
from tests.support.certificates import Papers, certs_d, own_address, papers
from tests.support.checkout import Checkout
from tests.support.fronts import Front, front
from tests.support.raw_server import raw_server
from tests.support.registries import registry


@contextmanager
def tls_port(upstream: str, to_plain: bytes) -> Iterator[str]:
    """A port where `upstream` is found by who speaks TLS; anybody else gets `to_plain`, or a reset."""
    name, _, port = upstream.rpartition(":")

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def talk(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) != b"\x16":
            connection.sendall(to_plain)
            if not to_plain:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        with socket.create_connection((name, int(port))) as server:
            back = Thread(target=pump, args=(server, connection))
            back.start()
            pump(connection, server)
            back.join()

    with raw_server(talk) as made:
        yield made.host


@pytest.fixture
def here(tmp_path: Path) -> Papers:
    """A certificate for localhost."""
    return papers(tmp_path / "papers", "localhost")


@pytest.fixture
def tls(tmp_path: Path, here: Papers) -> Iterator[str]:
    """A registry that speaks TLS."""
    with registry(tmp_path / "tls", http={"tls": here.settings}) as host:
        yield host


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Front]:
    """A registry that speaks plain HTTP, under an address that is not the loopback interface's."""
    with registry(tmp_path / "plain") as host, front(host, own_address(), "0.0.0.0") as made:
        yield made


def test_an_unknown_authority(checkout: Checkout, tls: str) -> None:
    message = checkout.refuses(1, "push", REGISTRY=tls)
    assert f"https://{tls}/v2/" in message
    assert "certificate verification failed" in message
    assert f"certs.d/{tls}/ca.crt" in message
    assert f"--insecure-registry {tls}" in message
    assert "tried" not in message  # it would not get better


def test_an_authority_in_certs_d(checkout: Checkout, tls: str, here: Papers) -> None:
    (certs_d(checkout, tls) / "ca.crt").write_bytes(here.authority.read_bytes())
    checkout("push", REGISTRY=tls)


def test_an_authority_in_certs_d_of_another_host(checkout: Checkout, tls: str, here: Papers) -> None:
    (certs_d(checkout, "localhost:1") / "ca.crt").write_bytes(here.authority.read_bytes())
    assert "certificate verification failed" in checkout.refuses(1, "push", REGISTRY=tls)


def test_an_authority_in_ssl_cert_file(checkout: Checkout, tls: str, here: Papers) -> None:
    checkout("push", REGISTRY=tls, SSL_CERT_FILE=str(here.authority))


def test_an_insecure_registry_with_tls(checkout: Checkout, tls: str) -> None:
    run = checkout("push", "--insecure-registry", tls, REGISTRY=tls)
    assert "Warning" not in run.stderr


def test_an_insecure_registry_elsewhere(checkout: Checkout, tls: str) -> None:
    assert "certificate verification failed" in checkout.refuses(
        1, "push", "--insecure-registry", "localhost:1", REGISTRY=tls
    )


def test_a_certificate_for_another_name(checkout: Checkout, tmp_path: Path) -> None:
    other = papers(tmp_path / "other", "registry.test")
    with registry(tmp_path / "registry", http={"tls": other.settings}) as host:
        message = checkout.refuses(1, "push", REGISTRY=host, SSL_CERT_FILE=str(other.authority))
        assert "certificate verification failed" in message
        assert "not valid for 'localhost'" in message
        checkout("push", "--insecure-registry", host, REGISTRY=host)


def test_an_expired_certificate(checkout: Checkout, tmp_path: Path) -> None:
    old = papers(tmp_path / "old", "localhost", expired=True)
    with registry(tmp_path / "registry", http={"tls": old.settings}) as host:
        message = checkout.refuses(1, "push", REGISTRY=host, SSL_CERT_FILE=str(old.authority))
        assert "certificate has expired" in message


@pytest.mark.parametrize("anchor", ["intermediate", "own"])
def test_a_chain_that_does_not_reach_its_root(checkout: Checkout, tmp_path: Path, anchor: str) -> None:
    """What certs.d names is trusted as it is, whoever signed it."""
    here = papers(tmp_path / "papers", "localhost", authority=trustme.CA().create_child_ca())
    known = here.authority if anchor == "intermediate" else here.certificate
    with registry(tmp_path / "registry", http={"tls": here.settings}) as host:
        assert "certificate verification failed" in checkout.refuses(1, "push", REGISTRY=host)
        (certs_d(checkout, host) / "ca.crt").write_bytes(known.read_bytes())
        checkout("push", REGISTRY=host)
        (certs_d(checkout, host) / "ca.crt").unlink()
        checkout("push", REGISTRY=host, SSL_CERT_FILE=str(known))


RESET, ALERT, SSH = b"", b"\x15\x03\x01\x00\x02\x02\x46", b"SSH-2.0-OpenSSH_9.2\r\n"
OTHER = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("answer", [RESET, ALERT, SSH, OTHER], ids=["reset", "alert", "ssh", "400"])
def test_tls_on_loopback_that_has_no_words_for_plain_http(
    checkout: Checkout, tls: str, here: Papers, answer: bytes
) -> None:
    with tls_port(tls, answer) as host:
        message = checkout.refuses(1, "push", REGISTRY=host)
        assert f"https://{host}/v2/" in message
        assert f"certs.d/{host}/ca.crt" in message
        (certs_d(checkout, host) / "ca.crt").write_bytes(here.authority.read_bytes())
        checkout("all-push", REGISTRY=host)
        checkout("check", REGISTRY=host)


def test_a_certificate_of_ours(checkout: Checkout, tmp_path: Path, here: Papers) -> None:
    ours = papers(tmp_path / "ours", "releaser@example.org")
    settings = {**here.settings, "clientcas": [str(ours.authority)]}
    with registry(tmp_path / "registry", http={"tls": settings}) as host:
        folder = certs_d(checkout, host)
        (folder / "ca.crt").write_bytes(here.authority.read_bytes())
        message = checkout.refuses(1, "push", REGISTRY=host)
        assert f"certs.d/{host}/client.cert and client.key" in message
        (folder / "client.cert").write_bytes(ours.certificate.read_bytes())
        message = checkout.refuses(1, "push", REGISTRY=host)
        assert f"{folder}/client.cert: found no client.key beside it" in message
        (folder / "client.key").write_bytes(ours.key.read_bytes())
        checkout("push", REGISTRY=host)


@pytest.mark.parametrize("name", ["ca.crt", "client.cert", "client.key"])
def test_rubbish_in_certs_d(checkout: Checkout, tmp_path: Path, tls: str, here: Papers, name: str) -> None:
    ours = papers(tmp_path / "ours", "releaser@example.org")
    folder = certs_d(checkout, tls)
    files = {"ca.crt": here.authority, "client.cert": ours.certificate, "client.key": ours.key}
    for each, source in files.items():
        (folder / each).write_bytes(b"rubbish" if each == name else source.read_bytes())
    message = checkout.refuses(1, "push", REGISTRY=tls)
    assert f"{folder}/{'ca.crt' if name == 'ca.crt' else 'client.cert'}: " in message
    assert "PEM" in message


def test_a_key_of_another_certificate(checkout: Checkout, tmp_path: Path, tls: str, here: Papers) -> None:
    folder = certs_d(checkout, tls)
    (folder / "client.cert").write_bytes(papers(tmp_path / "ours", "a@example.org").certificate.read_bytes())
    (folder / "client.key").write_bytes(here.key.read_bytes())
    message = checkout.refuses(1, "push", REGISTRY=tls)
    assert f"{folder}/client.cert: " in message
    assert "expected a matching certificate and key" in message


def test_a_key_with_a_password_is_not_asked_for(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    ours = papers(tmp_path / "ours", "a@example.org")
    folder = tmp_path / "registry.test"
    folder.mkdir()
    key = load_pem_private_key(ours.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    (folder / "client.key").write_bytes(locked)
    (folder / "client.cert").write_bytes(ours.certificate.read_bytes())
    from build.errors import PublishError

    with pytest.raises(PublishError, match=r"client\.cert: "):
        tls_context(Access(certificates=(tmp_path,)), "registry.test")


def test_plain_http_where_tls_is_expected(checkout: Checkout, plain: Front) -> None:
    message = checkout.refuses(1, "push", REGISTRY=plain.host)
    assert f"{plain.host} speaks plain HTTP" in message
    assert f"--insecure-registry {plain.host}" in message
    assert plain.asked == []
    checkout("push", "--insecure-registry", plain.host, REGISTRY=plain.host)
    assert plain.asked


def test_an_insecure_registry_with_tls_that_hangs_up_on_plain_http(
    checkout: Checkout, tmp_path: Path, here: Papers
) -> None:
    """Not every server says in words that it speaks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(here.certificate, here.key)
    with registry(tmp_path / "registry") as host, front(host, tls=context) as between:
        checkout("push", "--insecure-registry", between.host, REGISTRY=between.host)
        assert between.asked


def test_an_insecure_registry_in_plain_http_on_loopback(checkout: Checkout, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        checkout("push", "--insecure-registry", host.upper(), REGISTRY=host)


@pytest.mark.parametrize("value", ["http://registry.test", "registry.test/team", "", "a b", "registry.test:port", "*"])
def test_an_insecure_registry_that_is_no_host(checkout: Checkout, value: str) -> None:
    message = checkout.refuses(2, "push", f"--insecure-registry={value}", REGISTRY="localhost:1")
    assert f"--insecure-registry {value!r}: expected HOST[:PORT]" in message


def test_two_authorities_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "registry.test").mkdir()
    for name in ("a.crt", "b.crt"):
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "registry.test" / name))
    plain = len(tls_context(Access(), "registry.test").get_ca_certs())
    assert len(tls_context(Access(certificates=(tmp_path,)), "registry.test").get_ca_certs()) == plain + 2


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5000", "LOCALHOST", "127.0.0.1:80", "127.9.9.9", "[::1]:5000"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["127.evil.test", "127.0.0.1.evil.test:80", "localhost.evil.test", "128.0.0.1", "[::2]:80", "my-localhost"]
)
def test_names_that_only_look_like_loopback(host: str) -> None:
    assert not is_loopback(host)
