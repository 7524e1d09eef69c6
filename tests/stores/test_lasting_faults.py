"""A fault that lasts ends `all-push` with one message: what, where, the registry's own words, and no secret."""

from __future__ import annotations

import json
import re
import signal
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.checkout import Checkout, Run, ended
from tests.support.components import need
from tests.support.faults import Fault, Faulty, answering, faulty, matching
from tests.support.logins import PASSWORD, USER, configured, encoded
from tests.support.pidns import until
from tests.support.registries import registry
from tests.support.token_server import SERVICE, token_server

Released = tuple[Checkout, Run]
UPLOADS = "/blobs/uploads/"
KEY = "key-in-a-query"


@dataclass
class Shop:
    """A checkout with everything compiled, and a registry that wants a token, and fails as planned."""

    checkout: Checkout
    proxy: Faulty
    storage: Path
    config: str

    def has_tag(self, name: str) -> bool:
        """Whether there is one, for a registry that tells not everyone."""
        repositories = self.storage / "docker" / "registry" / "v2" / "repositories"
        return (repositories / name / "_manifests" / "tags" / "3.1" / "current" / "link").exists()

    def secrets(self) -> set[str]:
        """What must never be shown: all that was sent or given to prove something."""
        whole = f"{USER}:{PASSWORD}".encode()
        found = {PASSWORD, b64encode(whole).decode(), KEY}
        found |= {
            each.headers["Authorization"].split()[1] for each in self.proxy.seen if "Authorization" in each.headers
        }
        locations = [each.headers.get("Location", "") for each in self.proxy.given]
        return found | {state for each in locations for state in re.findall(r"_state=([^&]+)", each)}

    def shows_no_secret(self, text: str) -> None:
        secrets = self.secrets()
        assert [secret for secret in secrets if secret in text] == []

    def fails(self, *words: str) -> str:
        """The message of `all-push`; no tag is there, and no secret shown."""
        message = self.checkout.refuses(1, "all-push", *words, REGISTRY=self.proxy.host, DOCKER_CONFIG=self.config)
        self.shows_no_secret(message)
        assert "?" not in message
        self.proxy.follow(faults.no_fault)
        return message


@pytest.fixture(scope="module")
def compiled(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout.clone(source.root, tmp_path_factory.mktemp("lasting") / "checkout")
    checkout("all-container")
    return checkout


@pytest.fixture
def shop(compiled: Checkout, tmp_path: Path) -> Iterator[Shop]:
    need("openssl", "openssl")
    with token_server(tmp_path / "tokens", USER, PASSWORD) as tokens:
        token = {
            "realm": f"{tokens.realm}?account-key={KEY}",
            "service": SERVICE,
            "issuer": SERVICE,
            "rootcertbundle": str(tokens.certificate),
        }
        with registry(tmp_path / "registry", auth={"token": token}) as host, faulty(host) as proxy:
            storage = tmp_path / "registry" / "storage"
            yield Shop(compiled, proxy, storage, configured(compiled, auths={proxy.host: encoded(PASSWORD)}))


NOW = {"Retry_After": "0"}
TIMEOUT = ("--timeout", "3")
LATE = "timed out: --timeout 3 (seconds)"
HEAD, POST, PUT = ("HEAD", "/manifests/"), ("POST", UPLOADS), ("PUT", UPLOADS)
MANIFEST, LIST = ("PUT", "/manifests/sha256:"), ("PUT", "/pause/manifests/3.1")
LASTING: dict[str, tuple[Fault, tuple[str, str], list[str]]] = {
    "a question is refused": (faults.refused, HEAD, ["HEAD http", "times in ", LATE]),
    "503 to a question": (answering(503, **NOW), HEAD, [": 503", "times in ", LATE]),
    "429 to an upload": (
        answering(429, "TOOMANYREQUESTS", "slowly", **NOW),
        POST,
        [": 429 TOOMANYREQUESTS: slowly", LATE],
    ),
    "403 to an upload": (answering(403, "DENIED", "read only"), POST, [": 403 DENIED: read only"]),
    "405 to an upload": (answering(405, "UNSUPPORTED", "read only"), POST, [": 405 UNSUPPORTED: read only"]),
    "507 to a blob": (answering(507, "FULL", "no room"), PUT, ["PUT http", ": 507 FULL: no room"]),
    "500 to a blob": (answering(500, "UNKNOWN", "disk", **NOW), PUT, [": 500 UNKNOWN: disk", LATE]),
    "an upload that always expires": (
        answering(404, "BLOB_UPLOAD_UNKNOWN", "gone", **NOW),
        PUT,
        [": 404 BLOB_UPLOAD_UNKNOWN: gone", "tried "],
    ),
    "413 to a manifest": (answering(413), MANIFEST, ["PUT http", "/manifests/sha256:", ": 413"]),
    "400 to a manifest": (
        answering(400, "MANIFEST_INVALID", "manifest invalid"),
        MANIFEST,
        [": 400 MANIFEST_INVALID: manifest invalid"],
    ),
    "403 to the list": (answering(403, "DENIED", "immutable"), LIST, ["/pause/manifests/3.1: 403 DENIED: immutable"]),
    "the list's answer is lost": (faults.refused, LIST, ["/pause/manifests/3.1: ", LATE]),
    "wrong digest of a blob": (faults.wrong_digest, PUT, ["found digest sha256:000", "expected sha256:"]),
    "no Location": (faults.no_location, POST, ["POST http", "found no Location"]),
    "Location in the open": (
        faults.location(f"http://{USER}:{PASSWORD}@elsewhere.example/up?_state={KEY}"),
        POST,
        ["http://elsewhere.example: expected https"],
    ),
    "Location on a host that is not there": (
        faults.location(f"https://{USER}:{PASSWORD}@no.such.invalid/up?_state={KEY}"),
        POST,
        ["PUT https://no.such.invalid/up: "],
    ),
    "Location on a host that can't be one": (
        faults.location(f"https://{'a' * 64}.invalid/up?_state={KEY}"),
        POST,
        [".invalid/up: no such host: "],
    ),
    "Location that is none": (
        faults.location(f"http://[{PASSWORD}/up?_state={KEY}"),
        POST,
        ["found an invalid URL in the Location of its answer"],
    ),
    "Location without a port": (
        faults.location(f"http://localhost:port/up?_state={KEY}"),
        POST,
        ["Location"],
    ),
    "401 without a challenge": (answering(401), POST, ["unknown credentials", "docker login"]),
    "401 to everything": (
        answering(401, "UNAUTHORIZED", "who?", WWW_Authenticate='Basic realm="here"'),
        ("HEAD|POST", "/v2/"),
        ["HEAD http", ": 401"],
    ),
    "a challenge with no realm": (answering(401, WWW_Authenticate='Bearer service="x"'), POST, ["realm"]),
    "a realm that is no URL": (
        answering(401, WWW_Authenticate=f'Bearer realm="http://[{KEY}",service="x"'),
        POST,
        ["realm"],
    ),
}


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_is_one_message(shop: Shop, fault: str) -> None:
    what, where, words = LASTING[fault]
    shop.proxy.follow(matching(what, *where))
    message = shop.fails(*TIMEOUT)
    for word in words:
        assert word in message
    only_list = where == LIST
    for name in ("pause-amd64", "pause-s390x", "pause"):
        assert shop.has_tag(name) == (only_list and name != "pause")


READING: dict[str, tuple[Fault, str, list[str]]] = {
    "500 to a blob": (answering(500, "UNKNOWN", "disk", **NOW), "blobs", [": 500 UNKNOWN: disk", LATE]),
    "404 to a blob": (answering(404, "BLOB_UNKNOWN", "gone"), "blobs", [": 404 BLOB_UNKNOWN: gone"]),
    "403 to a manifest": (answering(403, "DENIED", "not you"), "manifests", [": 403 DENIED: not you"]),
    "a corrupted blob": (faults.corrupted, "blobs", ["found digest sha256:", "expected sha256:", "tried "]),
    "a blob that is cut": (faults.cut_in_body, "blobs", [": the answer was cut short", LATE]),
}


@pytest.mark.parametrize("fault", READING)
def test_so_is_one_while_reading(shop: Shop, fault: str) -> None:
    what, kind, words = READING[fault]
    given = {"REGISTRY": shop.proxy.host, "DOCKER_CONFIG": shop.config}
    shop.checkout("all-push-images", **given)
    shop.proxy.follow(matching(what, "GET", f"/pause-arm64/{kind}/"))
    message = shop.checkout.refuses(1, "push-manifest", *TIMEOUT, **given)
    for word in ["arm64: ", f"http://{shop.proxy.host}/v2/pause-arm64/{kind}/", *words]:
        assert word in message
    shop.shows_no_secret(message)
    assert not shop.has_tag("pause")


def test_a_token_that_is_none_is_not_shown(shop: Shop) -> None:
    def a_line_too_many(request: faults.Request, registry: faults.Registry) -> faults.Answer:
        challenge = registry(request).headers["Www-Authenticate"]
        return faults.Answer(401, {"WWW-Authenticate": re.sub('realm="[^"]*"', f'realm="{realm}"', challenge)})

    with faulty(shop.proxy.upstream) as tokens:
        realm = f"http://{tokens.host}/token?account-key={KEY}"
        body = json.dumps({"token": f"{KEY}\r\nX: y"}).encode()
        tokens.follow(lambda *_: lambda *_: faults.Answer(200, {}, body))
        shop.proxy.follow(matching(a_line_too_many, "HEAD", "/v2/"))
        assert f"http://{tokens.host}/token: expected a JSON object with a token" in shop.fails()


def test_a_log_of_everything_shows_no_secret(shop: Shop) -> None:
    """Invoke's --debug has all libraries say what they do."""
    shop.proxy.follow(matching(faults.refused, "PUT", UPLOADS, times=1))
    run = shop.checkout("--debug", "all-push", REGISTRY=shop.proxy.host, DOCKER_CONFIG=shop.config)
    assert any("_state=" in each.path for each in shop.proxy.seen)
    shop.shows_no_secret(run.stdout + run.stderr)


def test_words_of_a_registry_do_not_move_the_cursor(shop: Shop) -> None:
    shop.proxy.follow(matching(answering(403, "DENIED", "\x1b[2Jred\nonly\u202e"), "POST", UPLOADS))
    assert ": 403 DENIED: [2Jred only\n" in shop.fails()


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"null", b'{"errors": {}}', b'{"errors": [7]}', b'{"errors":' + b"[" * 99999]
)
def test_words_that_are_none_are_left_out(shop: Shop, body: bytes) -> None:
    shop.proxy.follow(matching(lambda *_: faults.Answer(403, {}, body), "POST", f"/pause-arm{UPLOADS}"))
    assert f"POST http://{shop.proxy.host}/v2/pause-arm{UPLOADS}: 403" in shop.fails()


@pytest.mark.parametrize("status", [429, 503])
def test_who_wants_to_be_left_alone_for_longer_than_there_is_time(shop: Shop, status: int) -> None:
    """It ends at once: with the wait the test would not."""
    shop.proxy.follow(matching(answering(status, "BUSY", "later", Retry_After="900"), "PUT", UPLOADS))
    message = shop.fails("--timeout", "800")
    assert f": {status} BUSY: later" in message
    assert "it asks to wait 900 s" in message
    assert "--timeout 800" in message


def test_a_date_to_come_back_that_is_too_late(shop: Shop) -> None:
    shop.proxy.follow(matching(faults.busy_until(9000), "HEAD", "/v2/"))
    message = shop.fails()
    assert re.search(r"it asks to wait (8999|9000|8998) s", message)
    assert "--timeout 300" in message


def test_no_answer_before_the_time_is_over(shop: Shop) -> None:
    shop.proxy.follow(matching(faults.stalled, "PUT", "/pause/manifests/3.1"))
    message = shop.fails("--timeout", "4")
    assert "/pause/manifests/3.1: no answer in time" in message
    assert "--timeout 4" in message


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "1e3", "\u0663", " 5"])
def test_a_timeout_is_a_number_of_seconds(compiled: Checkout, value: str) -> None:
    for given in ((f"--timeout={value}",), ()):
        message = compiled.refuses(2, "all-push", *given, **({} if given else {"TIMEOUT": value}))
        assert f"timeout: found {value!r}, expected a positive whole number of seconds" in message


@pytest.mark.parametrize("fault", [answering(503, Retry_After="250"), faults.stalled])
def test_ctrl_c_is_not_kept_waiting(shop: Shop, fault: Fault) -> None:
    """Neither by a wait for the next try nor by an answer that does not come: the test would not wait for them."""
    shop.proxy.follow(matching(fault, "PUT", UPLOADS))
    before = set(shop.checkout.snapshot())
    process = shop.checkout.start("all-push", REGISTRY=shop.proxy.host, DOCKER_CONFIG=shop.config)
    until("all uploads wait", lambda: shop.proxy.spoilt >= 8)
    process.send_signal(signal.SIGINT)
    until("it is gone", lambda: process.poll() is not None)
    run = ended(process)
    assert (run.code, run.stdout) == (130, "")
    assert "\nall-push: interrupted\n" in f"\n{run.stderr}"
    assert set(shop.checkout.snapshot()) == before
    assert not any(map(shop.has_tag, ("pause", "pause-amd64")))
    shop.shows_no_secret(run.stderr)


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/"])
def test_neither_is_it_while_reading(shop: Shop, path: str) -> None:
    environment = {"REGISTRY": shop.proxy.host, "DOCKER_CONFIG": shop.config}
    shop.checkout("all-push", **environment)
    before = shop.proxy.spoilt
    shop.proxy.follow(matching(faults.stalled, "GET", path))
    process = shop.checkout.start("check", **environment)
    until("a read waits", lambda: shop.proxy.spoilt > before)
    process.send_signal(signal.SIGINT)
    until("it is gone", lambda: process.poll() is not None)
    run = ended(process)
    assert (run.code, run.stdout) == (130, "")
    assert "\ncheck: interrupted\n" in f"\n{run.stderr}"
