"""The supported Dockerfile subset becomes config and files; anything else is refused with line and instruction."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.errors import ImageError
from build.image.base import Base
from build.image.dockerfile.context import Context, state
from build.image.dockerfile.stage import Stage, carry_out
from build.image.dockerfile.syntax import Dockerfile, Location, parse
from build.image.dockerfile.words import expand
from build.image.template import quoted, render, template_line
from build.oci.descriptor import Blob
from build.oci.image import Image, Layer
from build.oci.platform import Platform
from tests.support.properties import examples
from tests.support.strangers import Shelf, tape

SHIPPED = (Path(__file__).parent.parent.parent / "Dockerfile.j2").read_text()
NOWHERE, CREATED = Path("/nonexistent"), "2020-01-01T00:00:00Z"
AMD64, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
HEAD = "FROM scratch\nCOPY bin/pause /pause\n"


def parsed(text: str, platform: Platform = ARM, name: str = "Dockerfile", arch: str = "") -> Dockerfile:
    return parse(text, Location(name, arch), {"TARGETPLATFORM": str(platform), "TARGETARCH": platform.architecture})


def made(text: str, root: Path = NOWHERE, platform: Platform = ARM, base: Base | None = None) -> Stage:
    """What a Dockerfile makes in a checkout, whose program is bin/pause."""
    context = Context(root, "bin/pause", b"program")
    return carry_out(parsed(text, platform), base, context, platform, CREATED, 0)


def settings(instructions: str, before: str = "") -> dict[str, Any]:
    return dict(made(before + HEAD + instructions).config["config"])


def refusal(text: str, root: Path = NOWHERE) -> str:
    with pytest.raises(ImageError) as raised:
        made(text, root)
    return str(raised.value)


def members(*layers: Layer) -> list[tarfile.TarInfo]:
    return [each for layer in layers for each in tarfile.open(fileobj=io.BytesIO(layer.data))]


def names(*layers: Layer) -> list[str]:
    return [each.name for each in members(*layers)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "x").mkdir(parents=True)
    for path in ("a", "a b", "c", "x/a", "x/c"):
        (root / path).write_text(path)
    return root


# --- rendering ---


def test_the_shipped_template() -> None:
    labels = {"org.opencontainers.image.title": "pause", "org.opencontainers.image.version": "3.1"}
    image = {"name": "pause", "user": "65535:65535", "entrypoint": ["/pause"]}
    text = render(SHIPPED, "Dockerfile.j2", {"binary": "bin/pause-arm", "image": image, "labels": labels})
    stage = carry_out(parsed(text), None, Context(NOWHERE, "bin/pause-arm", b""), ARM, CREATED, 0)
    assert names(*stage.layers) == ["pause"]
    assert stage.config["config"] == {"User": "65535:65535", "Entrypoint": ["/pause"], "Labels": labels}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("a\n{{ tga }}", "D.j2:2: 'tga' is undefined\n  known variables: rev, tag", id="undefined"),
        pytest.param("{{ tag.x }}", "D.j2:1: 'str object' has no attribute 'x'", id="undefined member"),
        pytest.param("a\nb\n{{ tag }", "D.j2:3: unexpected '}'", id="syntax"),
        pytest.param("a\n{% if tag %}", "D.j2:2: Unexpected end of template", id="not closed"),
        pytest.param("\n{{ tag | nothing }}", "D.j2:2: No filter named 'nothing'", id="filter"),
        pytest.param("\n\n{{ tag + 1 }}", "D.j2:3: can only concatenate str", id="type"),
        pytest.param("\n{{ 1 / 0 }}", "D.j2:2: division by zero", id="arithmetic"),
        pytest.param('{% include "x" %}', "D.j2:1: no loader", id="include"),
        pytest.param("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "D.j2:1: maximum recursion", id="recursion"),
    ],
)
def test_an_error_in_a_template_is_located(template: str, message: str) -> None:
    with pytest.raises(ImageError) as raised:
        render(template, "D.j2", {"tag": "3.1", "rev": "1"})
    assert str(raised.value).startswith(message)


def test_a_rendered_line_is_traced_to_its_template() -> None:
    template = (
        "FROM scratch\n{% for each in names %}\nCOPY {{ each }} /\n{% endfor %}\n{%- if tag %}\nUSER 1\n{% endif %}\nX"
    )
    known = {"names": ["a", "b\nc"], "tag": "1"}
    lines = render(template, "D.j2", known).split("\n")
    for text, line in (("FROM scratch", 1), ("COPY a /", 3), ("COPY b", 3), ("c /", 3), ("USER 1", 6), ("X", 8)):
        assert template_line(template, known, lines.index(text) + 1) == line


# All characters of a label except those on which builders differ.
plain = st.text(st.characters(exclude_characters='"\\$', min_codepoint=32, exclude_categories=["Cs"]))
keys = st.text(st.characters(exclude_characters='"\\$=', min_codepoint=32, exclude_categories=["Cs"]), min_size=1)


@examples(150)
@given(st.dictionaries(keys, plain, min_size=1, max_size=5))
def test_quoted_labels_are_parsed_unchanged(labels: dict[str, str]) -> None:
    template = "{% for k, v in labels.items() %}LABEL {{ k | quoted }}={{ v | quoted }}\n{% endfor %}"
    assert settings(render(template, "Dockerfile", {"labels": labels}))["Labels"] == labels


@pytest.mark.parametrize("character", ['"', "\\", "$", "\n", "\r", "\t", "\0"])
def test_characters_on_which_builders_differ_are_not_quoted(character: str) -> None:
    with pytest.raises(ImageError, match="can't be quoted"):
        quoted(f"a{character}b")


# --- supported ---


@pytest.mark.parametrize(
    ("instructions", "members"),
    [
        pytest.param("USER 1", {"User": "1"}, id="USER"),
        pytest.param("USER 1\nUSER 2:3", {"User": "2:3"}, id="last USER"),
        pytest.param('ENTRYPOINT ["/a", "b c"]', {"Entrypoint": ["/a", "b c"]}, id="ENTRYPOINT"),
        pytest.param('CMD ["-v"]', {"Cmd": ["-v"]}, id="CMD"),
        pytest.param('ENV A=1 B="2 3"\nENV A=4', {"Env": ["A=4", "B=2 3"]}, id="ENV"),
        pytest.param("ENV A 1", {"Env": ["A=1"]}, id="ENV of old"),
        pytest.param("EXPOSE 80 53/udp", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}, id="EXPOSE"),
        pytest.param("STOPSIGNAL SIGINT", {"StopSignal": "SIGINT"}, id="STOPSIGNAL"),
        pytest.param("STOPSIGNAL 2", {"StopSignal": "2"}, id="STOPSIGNAL number"),
        pytest.param("LABEL a=1\nLABEL b='2 3'", {"Labels": {"a": "1", "b": "2 3"}}, id="LABEL"),
        pytest.param("LABEL a=1 \\\n  b=2", {"Labels": {"a": "1", "b": "2"}}, id="continued"),
        pytest.param("LABEL a=1 \\\n# no\n  b=2", {"Labels": {"a": "1", "b": "2"}}, id="comment within"),
        pytest.param("# USER 2\n\n  # x\nUSER 1\n", {"User": "1"}, id="comments"),
        pytest.param("uSeR 1", {"User": "1"}, id="lower case"),
        pytest.param('USER 1\r\nCMD ["a"]\r\n', {"User": "1", "Cmd": ["a"]}, id="CRLF"),
    ],
)
def test_settings_become_config(instructions: str, members: dict[str, Any]) -> None:
    assert settings(instructions) == members


@pytest.mark.parametrize(
    ("instruction", "paths"),
    [
        pytest.param("COPY a /b", ["/b"], id="file"),
        pytest.param("ADD a /b", ["/b"], id="ADD"),
        pytest.param("copy x/a /b/", ["/b", "/b/a"], id="into a folder"),
        pytest.param("COPY a x/c /b/", ["/b", "/b/a", "/b/c"], id="several"),
        pytest.param('COPY ["a b", "/c d"]', ["/c d"], id="exec form"),
        pytest.param("COPY ./a b", ["/b"], id="relative target"),
        pytest.param("COPY /a b", ["/b"], id="rooted source"),
        pytest.param("COPY a /b\nCOPY c /d", ["/b", "/d"], id="two"),
        pytest.param("COPY x /y", ["/y", "/y/a", "/y/c"], id="folder"),
        pytest.param("COPY . /y", ["/y", "/y/a", "/y/a b", "/y/c", "/y/x", "/y/x/a", "/y/x/c"], id="everything"),
        pytest.param("COPY [a-b]* /y/", ["/y", "/y/a", "/y/a b"], id="pattern"),
        pytest.param("COPY */? /y/", ["/y", "/y/a", "/y/c"], id="pattern of folders"),
        pytest.param("WORKDIR /w\nCOPY a b/", ["/w", "/w/b", "/w/b/a"], id="WORKDIR"),
        pytest.param("WORKDIR /w\nWORKDIR x\nCOPY a .", ["/w", "/w/x", "/w/x/a"], id="relative WORKDIR"),
        pytest.param("COPY a /b/\nCOPY c /b", ["/b", "/b/a", "/b/c"], id="into a folder of before"),
        pytest.param("ARG n=a\nENV to=/b\nCOPY $n ${to}/", ["/b", "/b/a"], id="variables"),
    ],
)
def test_copies_become_files(checkout: Path, instruction: str, paths: list[str]) -> None:
    stage = made(f"FROM scratch\n{instruction}\n", checkout)
    assert sorted(f"/{name}" for name in names(*stage.layers)) == paths


def test_each_step_that_adds_files_makes_a_layer(checkout: Path) -> None:
    stage = made("FROM scratch\nCOPY a /a\nUSER 1\nADD c /c\nWORKDIR /\n", checkout, Platform("linux", "arm", "v7"))
    history = stage.config["history"]
    assert [each["created_by"] for each in history] == ["COPY a /a", "USER 1", "ADD c /c", "WORKDIR /"]
    assert [each.get("empty_layer", False) for each in history] == [False, True, False, True]
    assert [names(each) for each in stage.layers] == [["a"], ["c"]]
    assert [stage.config[name] for name in ("os", "architecture", "variant")] == ["linux", "arm", "v7"]
    assert {each["created"] for each in (*history, stage.config)} == {CREATED}


def test_the_dockerfile_decides_modes_and_owners(checkout: Path) -> None:
    (checkout / "x/c").chmod(0o777)
    (checkout / "x/a").chmod(0o600)
    (checkout / "x").chmod(0o700)
    steps = ("COPY x /x", "COPY --chmod=0640 --chown=7:8 x /y", "COPY --chown=9 a /z")
    stage = made("FROM scratch\n" + "\n".join(steps), checkout)
    assert {each.name: (each.mode, each.uid, each.gid) for each in members(*stage.layers)} == {
        "x": (0o755, 0, 0), "x/a": (0o644, 0, 0), "x/c": (0o755, 0, 0),
        "y": (0o640, 7, 8), "y/a": (0o640, 7, 8), "y/c": (0o640, 7, 8), "z": (0o644, 9, 9),
    }  # fmt: skip


def test_links_are_kept_but_followed_as_a_source(checkout: Path) -> None:
    (checkout / "x/link").symlink_to("a")
    (checkout / "to-x").symlink_to("x")
    (checkout / "x/outside").symlink_to("/etc/passwd")
    stage = made("FROM scratch\nCOPY to-x /y\nCOPY x/link /copied", checkout)
    found = {each.name: each for each in members(*stage.layers)}
    assert {name: each.linkname for name, each in found.items() if each.issym()} == {
        "y/link": "a", "y/outside": "/etc/passwd",
    }  # fmt: skip
    assert found["copied"].isfile()
    message = refusal("FROM scratch\nCOPY x/outside /y", checkout)
    assert message.startswith("Dockerfile:2: COPY x/outside: found a link to /etc/passwd, expected a path inside")


def test_dockerignore_leaves_files_out(checkout: Path) -> None:
    (checkout / ".dockerignore").write_text("# no\nx\n!x/c\na b\n")
    assert names(*made("FROM scratch\nCOPY . /y", checkout).layers) == [
        "y",
        "y/.dockerignore",
        "y/a",
        "y/c",
        "y/x",
        "y/x/c",
    ]
    message = refusal("FROM scratch\nCOPY x/a /y", checkout)
    assert message == (
        "Dockerfile:2: COPY x/a: .dockerignore excludes it from the build context\n  add a line there: !x/a"
    )
    program = made(HEAD, checkout)
    assert names(*program.layers) == ["pause"]


def test_a_state_changes_with_all_that_a_source_adds(checkout: Path) -> None:
    sources = ("a", "x", "*", "x/*", ".")
    before = {each: state(checkout, each) for each in sources}
    assert {each: state(checkout, each) for each in sources} == before
    (checkout / "x/new").symlink_to("a")
    changed = {each for each in sources if state(checkout, each) != before[each]}
    assert changed == {"x", "*", "x/*", "."}
    (checkout / "a").chmod(0o755)
    assert state(checkout, "a") != before["a"]
    assert state(checkout, "gone") == ""


@pytest.mark.parametrize("data", [gzip.compress(b"x"), tape({"a": b"1"})], ids=["gzip", "tar"])
def test_archives_are_copied_but_not_added(checkout: Path, data: bytes) -> None:
    (checkout / "packed").write_bytes(data)
    assert names(*made("FROM scratch\nCOPY packed /y", checkout).layers) == ["y"]
    assert "ADD packed: unpacking archives is not supported" in refusal("FROM scratch\nADD packed /y", checkout)


# --- upon a base ---


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """An image with links, a folder of another owner, and a config with everything."""
    shelf = Shelf(tmp_path / "shelf")
    config = {
        "User": "base", "Env": ["PATH=/sbin", "LANG=C"], "Cmd": ["-x"], "Entrypoint": ["/old"], "WorkingDir": "/home",
        "Labels": {"a": "1", "b": "1"}, "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGINT",
        "Hostname": "dropped", "Healthcheck": {"Test": ["NONE"]},
    }  # fmt: skip
    archive = tape(
        {"usr/bin": None, "bin": "usr/bin", "home/": None, "home/app": None, "usr/bin/old": b"old"}, mode=0o700
    )
    entry = shelf.image(tapes=[archive], settings=config, more={"history": [{"created_by": "base"}], "author": "me"})
    manifest = shelf.read(entry)
    blobs = [
        Blob.of(each["mediaType"], shelf.path(each["digest"]).read_bytes()) for each in (entry, manifest["config"])
    ]
    layers = [Blob.of(each["mediaType"], shelf.path(each["digest"]).read_bytes()) for each in manifest["layers"]]
    return Base("base", blobs[0].digest, Image(AMD64, blobs[0], blobs[1], tuple(layers)))


def test_config_is_merged(checkout: Path, base: Base) -> None:
    text = (
        'FROM base\nENV LANG=de X="$PATH:/x"\nLABEL b=2 c=$X\nEXPOSE 2-3\nVOLUME /w\nWORKDIR app\nUSER me:us\n'
        'ENTRYPOINT ["/new"]\nHEALTHCHECK --interval=1m30s --retries=3 CMD curl x\nSHELL ["/sh"]\n'
    )
    stage = made(text, checkout, base=base)
    assert stage.config["config"] == {
        "User": "me:us", "Env": ["PATH=/sbin", "LANG=de", "X=/sbin:/x"], "Entrypoint": ["/new"],
        "WorkingDir": "/home/app", "Labels": {"a": "1", "b": "2", "c": "/sbin:/x"}, "StopSignal": "SIGINT",
        "ExposedPorts": {"1/tcp": {}, "2/tcp": {}, "3/tcp": {}}, "Volumes": {"/v": {}, "/w": {}}, "Shell": ["/sh"],
        "Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 90 * 10**9, "Retries": 3},
    }  # fmt: skip
    assert stage.config["author"] == "me"
    assert [each["created_by"] for each in stage.config["history"]][:2] == ["base", 'ENV LANG=de X="$PATH:/x"']
    assert stage.layers == (), "/home/app is there already"


@pytest.mark.parametrize(
    ("steps", "command"),
    [
        ('ENTRYPOINT ["/new"]', None),
        ('CMD ["-y"]\nENTRYPOINT ["/new"]', ["-y"]),
        ('ENTRYPOINT ["/new"]\nCMD echo $HOME', ["/bin/sh", "-c", "echo $HOME"]),
        ('SHELL ["/b", "-l"]\nCMD exit', ["/b", "-l", "exit"]),
        ("USER 1", ["-x"]),
    ],
)
def test_entrypoint_resets_the_command_of_the_base(
    checkout: Path, base: Base, steps: str, command: list[str] | None
) -> None:
    assert made(f"FROM base\n{steps}\n", checkout, base=base).config["config"].get("Cmd") == command


def test_what_the_base_has_is_left_as_it_is(checkout: Path, base: Base) -> None:
    """A folder in a layer would replace the link /bin, or give /home another mode."""
    stage = made("FROM base\nCOPY a /bin/a\nCOPY a /bin\nCOPY x /home/app\nCOPY a new/a\n", checkout, base=base)
    assert [names(each) for each in stage.layers] == [
        ["usr/bin/a"], ["usr/bin/a"], ["home/app/a", "home/app/c"], ["home/new", "home/new/a"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"OnBuild": ["RUN x"]}}, "its ONBUILD is not supported"),
        ({"config": [1]}, "config: config: found [1], expected"),
        ({"config": {"Volumes": ["/v"]}}, "config: Volumes: found ['/v'], expected an object"),
        ({"history": "none"}, "config: history: found 'none', expected"),
    ],
)
def test_a_base_that_nothing_can_be_built_upon(
    checkout: Path, base: Base, changes: dict[str, Any], message: str
) -> None:
    config = {**json.loads(base.image.config.data), **changes}
    image = replace(base.image, config=Blob.of(base.image.config.media_type, json.dumps(config).encode()))
    with pytest.raises(ImageError) as raised:
        made("FROM base\nCOPY a /a\n", checkout, base=replace(base, image=image))
    assert message in str(raised.value)


# --- variables ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a ${a}b $ab", "1 1b 2"),
        ('\'$a\' "$a" \\$a "\\$a"', "$a 1 $a $a"),
        ("${x:-d} ${e:-d} ${e-d}| ${a:+s} ${x:+s}|", "d d | s |"),
        ("${x:-${a}$ab} ${x:-'}'}", "12 }"),
        ('a\\ b "c\\d" $ $% 5$', "a b c\\d $ $% 5$"),
        ("${a:?no}", "1"),
    ],
)
def test_variables_are_replaced_as_in_docker(text: str, expected: str) -> None:
    assert expand(text, {"a": "1", "ab": "2", "e": ""}) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$x", "$x is not set\n  set it with ARG x=VALUE or ENV, or write ${x:-}"),
        ("${x:?no way}", "$x: no way"),
        ("${a", "found ${a…, expected"),
        ("${a:-b", "found ${ without }"),
        ("${}", "found ${ without a name"),
        ("${a%b}", "found ${a%…, expected ${a}, ${a:-word} or ${a:+word}"),
        ("'a", "expected every quote closed"),
    ],
)
def test_variables_that_docker_would_not_replace(text: str, message: str) -> None:
    with pytest.raises(ImageError) as raised:
        expand(text, {"a": "1"})
    assert message in str(raised.value)


def test_arguments_before_and_after_from() -> None:
    text = "ARG tag=1 of=b\nFROM --platform=$TARGETPLATFORM reg.example/$of:${tag} AS x\n"
    assert parsed(text).base == "reg.example/b:1"
    stage = f"{text}COPY bin/pause /pause\n"
    assert "$tag is not set" in refusal(f"{stage}LABEL t=$tag\n")
    assert settings("ARG TARGETARCH\nARG x=$TARGETARCH y\nLABEL x=$x y=${y:-none}", "ARG tag=1\n")["Labels"] == {
        "x": "arm", "y": "none",
    }  # fmt: skip
    assert settings("ARG tag\nENV tag=3\nLABEL t=$tag", "ARG tag=1\n")["Labels"] == {"t": "3"}, "ENV wins"
    assert settings("ARG tag\nLABEL t=$tag", "ARG tag=1\n")["Labels"] == {"t": "1"}


# --- refused ---


@pytest.mark.parametrize(
    "instruction",
    ["RUN x", "ONBUILD USER 1", "MAINTAINER x"],
)
def test_other_instructions_are_refused(instruction: str) -> None:
    message = refusal(f"{HEAD}\n{instruction}\n")
    assert message.startswith(f"Dockerfile:4: {instruction.split(maxsplit=1)[0]} ")
    assert "--engine docker" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "Dockerfile:1: found nothing", id="empty"),
        pytest.param("FROM --platform=x scratch", "Dockerfile:1: FROM --platform=x scratch: found", id="platform"),
        pytest.param("FROM a b\n", "Dockerfile:1: FROM a b: expected an image", id="two words"),
        pytest.param(HEAD + "FROM scratch\n", "Dockerfile:3: FROM scratch: several stages (multi-", id="two stages"),
        pytest.param("ARG 1\nFROM scratch\n", "Dockerfile:1: ARG 1: expected NAME", id="ARG"),
        pytest.param("COPY a /a\n", "Dockerfile:1: found COPY a /a", id="no FROM"),
        pytest.param("FROM scratch\nUSER 1\n", "Dockerfile: no COPY", id="no COPY"),
        pytest.param("FROM scratch\nCOPY --from=x a /a", "COPY --from=x a /a: --from (multi-stage)", id="--from"),
        pytest.param("FROM scratch\nCOPY --link a /a", "COPY --link a /a: --link is not supported", id="--link"),
        pytest.param("FROM scratch\nCOPY --chown=me a /a", "COPY --chown=me: expected UID or UID:GID", id="--chown"),
        pytest.param("FROM scratch\nCOPY --chmod=u+x a /a", "COPY --chmod=u+x: expected an octal mode", id="--chmod"),
        pytest.param("FROM scratch\nCOPY <<E /a\nx\nE\n", "COPY <<E /a: here-documents are not", id="heredoc"),
        pytest.param("FROM scratch\nADD https://x/y /a", "Dockerfile:2: ADD https://x/y: URLs are not", id="URL"),
        pytest.param("FROM scratch\nCOPY a /a", "Dockerfile:2: COPY a: no such file in the checkout", id="no file"),
        pytest.param("FROM scratch\nCOPY [ /a/", "Dockerfile:2: COPY [: expected a pattern", id="pattern"),
        pytest.param("FROM scratch\nCOPY a/../../x /a", "COPY a/../../x: expected a path inside", id="dots"),
        pytest.param("FROM scratch\nCOPY a", "Dockerfile:2: COPY a: expected a source and a target", id="one word"),
        pytest.param("FROM scratch\nCOPY a b /c", "Dockerfile:2: COPY a b /c: the target", id="two onto one"),
        pytest.param(HEAD + "USER nobody", "Dockerfile:3: USER nobody: expected a numeric UID", id="USER name"),
        pytest.param(
            HEAD + "USER \N{ARABIC-INDIC DIGIT ONE}", "expected a numeric UID or UID:GID", id="USER other digits"
        ),
        pytest.param(HEAD + "ENTRYPOINT /a", "Dockerfile:3: ENTRYPOINT /a: expected the exec form", id="shell form"),
        pytest.param(HEAD + 'CMD ["a", 1]', "expected the exec form", id="CMD number"),
        pytest.param(HEAD + "CMD []", "expected the exec form", id="CMD empty"),
        pytest.param(HEAD + "EXPOSE http", "Dockerfile:3: EXPOSE http: expected PORT", id="EXPOSE"),
        pytest.param(HEAD + "STOPSIGNAL TERM", "Dockerfile:3: STOPSIGNAL TERM: expected a signal", id="STOPSIGNAL"),
        pytest.param(HEAD + "LABEL a=$x", "Dockerfile:3: LABEL $x is not set", id="variable"),
        pytest.param(HEAD + 'HEALTHCHECK --interval=1 CMD ["a"]', "--interval=1: expected a time", id="HEALTHCHECK"),
        pytest.param(HEAD + "HEALTHCHECK CMD a", "HEALTHCHECK CMD a: expected the exec form", id="HEALTHCHECK shell"),
        pytest.param(HEAD + "SHELL a", "Dockerfile:3: SHELL a: expected the exec form", id="SHELL"),
        pytest.param(HEAD + "LABEL a", "Dockerfile:3: LABEL a: expected NAME=VALUE", id="LABEL no value"),
        pytest.param(HEAD + "ENV a=1 b", "Dockerfile:3: ENV a=1 b: ", id="ENV second no value"),
        pytest.param(HEAD + "LABEL =a", "expected NAME=VALUE", id="LABEL no name"),
        pytest.param(HEAD + 'LABEL a="b', "expected every quote closed", id="open quote"),
        pytest.param(
            HEAD + "ENTYPOINT x",
            "Dockerfile:3: unknown instruction 'ENTYPOINT': did you mean 'ENTRYPOINT'?\n  known: ADD, ",
            id="misspelled",
        ),
        pytest.param(HEAD + "RUN", "Dockerfile:3: RUN: expected an instruction and its value", id="no value"),
        pytest.param(HEAD + "USER 1 \\", "Dockerfile:3: USER 1 \\: expected", id="continued nowhere"),
    ],
)
def test_refusals_name_line_and_instruction(text: str, message: str) -> None:
    assert message in refusal(text)


words = st.sampled_from(
    ["FROM", "scratch", "COPY", "LABEL", "ENV", "CMD", "USER", "a", "/a", "=", "\n", " ", '"', "'", "\\", "#", "[", "]"]
)


@examples(300)
@given(st.text() | st.lists(words).map("".join) | st.lists(words).map(lambda tail: HEAD + "".join(tail)))
def test_any_text_is_parsed_or_an_image_error(text: str) -> None:
    with suppress(ImageError):
        assert made(text).layers


def test_the_arch_is_part_of_the_location() -> None:
    with pytest.raises(ImageError, match=r"^Dockerfile\.j2:3 \(arm\): RUN is not supported by the embedded engine\n"):
        parsed(HEAD + "RUN x\n", name="Dockerfile.j2", arch="arm")
    empty = parsed("FROM scratch\nUSER 1\n", name="Dockerfile.j2", arch="arm")
    with pytest.raises(ImageError, match=r"^Dockerfile\.j2 \(arm\): no COPY"):
        carry_out(empty, None, Context(NOWHERE, "", b""), ARM, CREATED, 0)
