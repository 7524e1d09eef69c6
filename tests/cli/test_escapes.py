"""What others wrote moves no cursor, ends no line and is no command to a CI system, wherever it comes from."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from build.report import one_line, shown
from tests.support.checkout import Checkout, Run
from tests.support.raw_server import raw_server
from tests.support.strangers import Json, Shelf, elf, tape

Released = tuple[Checkout, Run]
CONTROLS = "\x1b\r\x9b\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\x85\0"
EVIL = f"{CONTROLS}\n::error::x\n  ::error::y\n##[error]z"
# Of a header, which has one line, and each character in one byte.
HEADER = "\x1b[2J\x9b ::error::x ##[error]z"


def harmless(text: str) -> None:
    """Fail if a character, the start of a line or a command is what others wrote."""
    for number, line in enumerate(text.removesuffix("\n").split("\n")):
        assert re.fullmatch(r"[\t\x20-\x7e…→]*", line) or line.isprintable(), ascii(line)
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line, line
        assert not number or line.startswith("  "), line


def refused(checkout: Checkout, *words: str, **environment: str) -> str:
    """The message of a run that fails because of it."""
    run = checkout.ends(*words, **environment)
    assert run.code in (1, 2), run.stderr
    assert run.stdout == ""
    harmless(run.stderr)
    return run.stderr


def test_a_line_ends_where_two_spaces_follow() -> None:
    assert shown("a\n  b\nc\n ::d") == "a\n  b\\nc\\n ::d"
    assert shown("::a\n  ::b\n  c ##[d] ##vso[e]") == "\\x3a:a\n  \\x3a:b\n  c \\x23#[d] \\x23#vso[e]"
    assert one_line(EVIL).isprintable()
    assert one_line("ä → 中 a::b # ## [x]") == "ä → 中 a::b # ## [x]"


def manifest_with(**changes: object) -> Callable[[Shelf], Json]:
    return lambda shelf: shelf.json({**shelf.read(shelf.image()), **changes}, "manifest")


def index_with(**changes: object) -> Callable[[Shelf], Json]:
    return lambda shelf: shelf.index({**shelf.image(), **changes})


IMAGES: dict[str, Callable[[Shelf], Json]] = {
    "a media type": manifest_with(mediaType=EVIL),
    "a member": manifest_with(**{f"Layers{EVIL}": 1, f"layers{EVIL}": 1}),
    "a schema version": manifest_with(schemaVersion=EVIL),
    "a layer's media type": manifest_with(layers=[{"mediaType": EVIL, "digest": "sha256:" + "0" * 64, "size": 1}]),
    "a digest": index_with(digest=EVIL),
    "a size": index_with(size=EVIL),
    "a platform": index_with(platform={"os": EVIL, "architecture": "amd64"}),
    "a diff_id": lambda shelf: shelf.image(more={"rootfs": {"diff_ids": [EVIL]}}),
    "an architecture": lambda shelf: shelf.image(more={"architecture": EVIL}),
    "an entrypoint": lambda shelf: shelf.image(settings={"Entrypoint": [f"/{EVIL}"]}),
    "a PATH": lambda shelf: shelf.image(settings={"Entrypoint": ["x"], "Env": [f"PATH={EVIL}"]}),
    "a file's name": lambda shelf: shelf.image(
        tapes=[tape({EVIL.replace("\0", "") + "/app": elf("arm")})],
        settings={"Entrypoint": ["/" + EVIL.replace("\0", "") + "/app"]},
    ),
    "an interpreter": lambda shelf: shelf.image(
        tapes=[tape({"app": b"#!/" + EVIL.split("\n", maxsplit=1)[0].encode() + b"\n"})]
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(released: Released, tmp_path: Path, name: str) -> None:
    shelf = Shelf(tmp_path / "shelf")
    message = refused(released[0], "check", shelf.tag("1", IMAGES[name](shelf)))
    assert "fault" in message


def answering(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        length = f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("latin-1") + length.encode() + body)

    return talk


ANSWERS: dict[str, Callable[[socket.socket], None]] = {
    "a reason": answering(f"HTTP/1.1 418 {HEADER}\r\n"),
    "a code and a message": answering(
        "HTTP/1.1 403 no\r\n", json.dumps({"errors": [{"code": EVIL, "message": EVIL}]}).encode()
    ),
    "a media type": answering(f"HTTP/1.1 200 OK\r\nContent-Type: {HEADER}\r\n", b"{}"),
    "a media type that HTTP allows": answering("HTTP/1.1 200 OK\r\nContent-Type: ::error::x\x9b##[y]\r\n", b"{}"),
    "a digest": answering("HTTP/1.1 200 OK\r\nDocker-Content-Digest: ::error::x\x9b##[y]\r\n", b"{}"),
    "a location": answering(f"HTTP/1.1 307 no\r\nLocation: http://localhost:1/\x9b##[y]{CONTROLS[3:4]!a}\r\n"),
    "a challenge": answering('HTTP/1.1 401 no\r\nWWW-Authenticate: \x9b##[y] realm="::error::"\r\n'),
    "no HTTP at all": answering("\x1b[2J::error::x\n::error::y\n##[z]\r\n"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_registries_and_proxies(released: Released, name: str) -> None:
    with raw_server(ANSWERS[name]) as server:
        refused(released[0], "check", f"{server.host}/some/one:1", "--timeout", "2")
        proxy = f"http://127.0.0.1:{server.port}"
        refused(released[0], "check", "r.example/some/one:1", "--timeout", "2", HTTPS_PROXY=proxy)


def test_paths(released: Released, tmp_path: Path) -> None:
    root = tmp_path / ("a\x1b[2J\u202e\n::error::x\n##[error]y" + "\u200f")
    checkout = Checkout.clone(released[0].root, root)
    (checkout.root / "dist/pause").mkdir(parents=True)
    (checkout.root / "dist/pause/index.json").write_text("[]")
    assert "not the index of an image layout" in refused(checkout, "push-manifest")
    assert "no such file" in refused(checkout, "copy", "oci-archive:none.tar", "oci:to")


def test_words_of_the_command_line(released: Released) -> None:
    for words in (["check", f"oci:{EVIL[:-1]}"], ["build", "--arch", EVIL], ["push", "--tag", EVIL], [f"bu{EVIL}"]):
        refused(released[0], *[word.replace("\0", "") for word in words])


TEMPLATES = {
    "an instruction": "FROM scratch\nCOPY bin/pause-amd64 /pause\n::error::x\x1b\u202e ##[error]y\n",
    "a value": "FROM scratch\nCOPY bin/pause-amd64 /pause\nUSER ::error::\x1b\u202e$##[error]y\n",
    "another base": "FROM \x1b\u202e::error::##[error]y\n",
    "a filter": '{{ 1|attr("a") }}{{ "\x1b\u202e##[error]y\\n::error::"|int(base=99) }}{{ x["\\n::error::##[e]"].y }}',
    "a syntax error": "{% ::error::\x1b\u202e ##[error] %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates(checkout: Checkout, name: str) -> None:
    (checkout.root / "Dockerfile.j2").write_text(TEMPLATES[name])
    refused(checkout, "container", "--quiet")


def test_tables(checkout: Checkout) -> None:
    value = json.dumps(EVIL)
    checkout.edit("arches.yaml", "triple: s390x-linux-gnu", f"triple: {value}")
    refused(checkout, "build")


def test_compilers(checkout: Checkout) -> None:
    source = checkout.root / "pause.c"
    text = source.read_text()
    source.write_text(f"::error::x \x1b[2J\u202e ##[error]y\n#error \u2066##[error]\n{text}")
    message = refused(checkout, "build", "--quiet")
    assert re.search(r"\n  pause\.c:1:1: error", message)  # its lines are kept


def test_files_of_ci_systems(released: Released, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "a|b`c ##[error]d")
    output, summary = tmp_path / "output", tmp_path / "summary"
    asked = shelf.tag("1", shelf.image())
    files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary)}
    run = released[0]("check", asked, **files)
    harmless(run.stdout)
    harmless(output.read_text().replace("\n", "\n  "))
    harmless(summary.read_text().replace("\n", "\n  "))
    row = summary.read_text().splitlines()[-2]
    assert re.split(r"(?<!\\)\|", row)[1].strip() == f"`` {asked} ``".replace("|", "\\|").replace("##", "\\x23#")
