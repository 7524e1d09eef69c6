"""The supported Dockerfile subset becomes config and files; anything else is refused with line and instruction."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.errors import ImageError
from build.image.dockerfile import Copy, image_config, parse
from build.image.template import quoted, render, template_line
from build.oci.platform import Platform
from tests.support.properties import examples

SHIPPED = (Path(__file__).parent.parent.parent / "Dockerfile.j2").read_text()
HEAD = "FROM scratch\nCOPY bin/pause /pause\n"


def settings(instructions: str) -> dict[str, Any]:
    return dict(parse(HEAD + instructions, "Dockerfile").config)


def refusal(text: str) -> str:
    with pytest.raises(ImageError) as raised:
        parse(text, "Dockerfile")
    return str(raised.value)


# --- rendering ---


def test_the_shipped_template() -> None:
    labels = {"org.opencontainers.image.title": "pause", "org.opencontainers.image.version": "3.1"}
    image = {"name": "pause", "user": "65535:65535", "entrypoint": ["/pause"]}
    text = render(SHIPPED, "Dockerfile.j2", {"binary": "bin/pause-arm", "image": image, "labels": labels})
    dockerfile = parse(text, "Dockerfile.j2")
    assert dockerfile.copies == (Copy("bin/pause-arm", "/pause"),)
    assert dockerfile.config == {"User": "65535:65535", "Entrypoint": ["/pause"], "Labels": labels}


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
    ("instruction", "copies"),
    [
        pytest.param("COPY a /b", [("a", "/b")], id="file"),
        pytest.param("ADD a /b", [("a", "/b")], id="ADD"),
        pytest.param("copy x/a /b/", [("x/a", "/b/a")], id="into a folder"),
        pytest.param("COPY a x/c /b/", [("a", "/b/a"), ("x/c", "/b/c")], id="several"),
        pytest.param('COPY ["a b", "/c d"]', [("a b", "/c d")], id="exec form"),
        pytest.param("COPY ./a b", [("a", "/b")], id="relative target"),
        pytest.param("COPY a /b\nCOPY c /d", [("a", "/b"), ("c", "/d")], id="two"),
    ],
)
def test_copies_become_files(instruction: str, copies: list[tuple[str, str]]) -> None:
    assert parse(f"FROM scratch\n{instruction}\n", "D").copies == tuple(Copy(*copy) for copy in copies)


@pytest.mark.parametrize("settings", ["", 'USER 1\nUSER 1\nCMD ["a"]\n'])
def test_history_adds_one_layer(settings: str) -> None:
    text = f"FROM scratch\nCOPY a /a\n{settings}ADD b /b\n"
    config = image_config(parse(text, "D"), Platform("linux", "arm", "v7"), "2020-01-01T00:00:00Z")
    history = config["history"]
    assert history[0] == {"created": config["created"], "created_by": "COPY a /a; ADD b /b"}
    assert [entry.get("empty_layer") for entry in history[1:]] == [True] * settings.count("\n")
    assert [entry["created_by"] for entry in history[1:]] == settings.splitlines()
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")


# --- refused ---


@pytest.mark.parametrize(
    "instruction",
    ["RUN x", "VOLUME /x", "WORKDIR /x", "HEALTHCHECK NONE", "SHELL [\"a\"]", "ONBUILD USER 1", "MAINTAINER x",
     "ARG a"],
)  # fmt: skip
def test_other_instructions_are_refused(instruction: str) -> None:
    message = refusal(f"{HEAD}\n{instruction}\n")
    assert message.startswith(f"Dockerfile:4: {instruction.split(maxsplit=1)[0]} ")
    assert "--engine docker" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "Dockerfile:1: found nothing", id="empty"),
        pytest.param("FROM scratch AS a\nCOPY a /a", "Dockerfile:1: FROM scratch AS a: ", id="stage"),
        pytest.param("FROM --platform=x scratch", "Dockerfile:1: FROM --platform=x scratch", id="platform"),
        pytest.param(HEAD + "FROM scratch\n", "Dockerfile:3: FROM scratch", id="two stages"),
        pytest.param("ARG a\nFROM scratch\n", "Dockerfile:1: found ARG a\n  expected FROM scratch", id="ARG first"),
        pytest.param("COPY a /a\n", "Dockerfile:1: found COPY a /a", id="no FROM"),
        pytest.param("FROM scratch\nUSER 1\n", "Dockerfile: no COPY", id="no COPY"),
        pytest.param("FROM scratch\nCOPY --chown=1 a /a", "Dockerfile:2: COPY --chown=1 a /a: flags", id="--chown"),
        pytest.param("FROM scratch\nCOPY <<E /a\nx\nE\n", "Dockerfile:2: COPY <<E /a: flags and here", id="heredoc"),
        pytest.param("FROM scratch\nADD https://x/y /a", "Dockerfile:2: ADD https://x/y: patterns", id="URL"),
        pytest.param("FROM scratch\nADD a.tar.gz /a", "Dockerfile:2: ADD a.tar.gz: patterns", id="archive"),
        pytest.param("FROM scratch\nCOPY * /a/", "Dockerfile:2: COPY *: patterns", id="pattern"),
        pytest.param(
            "FROM scratch\nCOPY /etc/x /a", "Dockerfile:2: COPY /etc/x: expected a file inside", id="absolute"
        ),
        pytest.param("FROM scratch\nCOPY a/../../x /a", "COPY a/../../x: expected a file inside", id="dots"),
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
        pytest.param(HEAD + "LABEL a=$x", "Dockerfile:3: LABEL a=$x: found $", id="variable"),
        pytest.param(HEAD + "LABEL a=\\x", "found $ or \\", id="escape"),
        pytest.param(HEAD + "LABEL a", "Dockerfile:3: LABEL a: expected NAME=VALUE", id="LABEL no value"),
        pytest.param(HEAD + "ENV a=1 b", "Dockerfile:3: ENV a=1 b: ", id="ENV second no value"),
        pytest.param(HEAD + "LABEL =a", "expected NAME=VALUE", id="LABEL no name"),
        pytest.param(HEAD + 'LABEL a="b', "with every quote closed", id="open quote"),
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
        assert parse(text, "Dockerfile").copies


def test_the_arch_is_part_of_the_location() -> None:
    with pytest.raises(ImageError, match=r"^Dockerfile\.j2:3 \(arm\): RUN is not supported by the embedded engine\n"):
        parse(HEAD + "RUN x\n", "Dockerfile.j2", "arm")
    with pytest.raises(ImageError, match=r"^Dockerfile\.j2 \(arm\): no COPY"):
        parse("FROM scratch\nUSER 1\n", "Dockerfile.j2", "arm")
