"""Reading any arches.yaml gives settings, or one message with file and line; never another exception."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from build.config.arches import Settings
from build.config.parse import read_settings
from build.errors import UsageError
from tests.support.properties import examples

SHIPPED = (Path(__file__).parent.parent.parent / "arches.yaml").read_text()
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read(folder: Path, document: bytes) -> Settings:
    path = folder / "arches.yaml"
    path.write_bytes(document)
    return read_settings(path)


def edited(old: str, new: str) -> str:
    assert SHIPPED.count(old) == 1
    return SHIPPED.replace(old, new)


ROWS = SHIPPED[SHIPPED.index("arches:\n") : SHIPPED.index("images:\n")]
IMAGES = SHIPPED[SHIPPED.index("images:\n") : SHIPPED.index("defaults:\n")]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param("", "1: found an empty file", id="empty"),
        pytest.param("# nothing\n", "1: found an empty file", id="comment"),
        pytest.param("null\n", "1: top level: found null 'null'", id="null"),
        pytest.param("[]\n", "1: top level: found a list", id="list"),
        pytest.param("pause\n", "1: top level: found the string 'pause'", id="string"),
        pytest.param("\n\na: [b\n", "4: not YAML", id="not YAML"),
        pytest.param("[" * 500, "1: not YAML", id="open brackets"),
        pytest.param("arches: " + "[" * 50_000 + "]" * 50_000, "1: not YAML: nested more than 100 levels", id="deep"),
        pytest.param("[" * 50_000, "1: not YAML: nested more than 100 levels", id="deep, open brackets"),
        pytest.param("- " * 50_000, "1: not YAML: nested more than 100 levels", id="deep, lists"),
        pytest.param("? " * 50_000, "1: not YAML: nested more than 100 levels", id="deep, keys"),
        pytest.param(
            "".join(" " * depth + "a:\n" for depth in range(200)),
            "101: not YAML: nested more than",
            id="deep, mappings",
        ),
        pytest.param("a: b\n---\nc: d\n", "2: not YAML", id="two documents"),
        pytest.param(edited("    tag:", "\ttag:"), "77: not YAML", id="tab"),
        pytest.param("a: b\nc: d\0\n", "2: not YAML", id="control character"),
        pytest.param("a: *b\n", "1: not YAML: found undefined alias", id="unknown alias"),
        pytest.param("&a [*a]\n", "1: top level: found a list", id="list in itself"),
        pytest.param("&a\narches: *a\nimages: *a\ndefaults: *a\n", "arches: found unknown key", id="map in itself"),
        pytest.param(
            edited("  arm64:\n", "  arm64:\n    <<: {}\n"), "24: arches.arm64: found the merge key", id="merge"
        ),
        pytest.param("? {a: b}\n: c\n", "1: top level: found a mapping", id="mapping as key"),
        pytest.param("? [a]\n: c\n", "1: top level: found a list", id="list as key"),
        pytest.param("? !!str [a]\n: c\n", "1: top level: found a sequence tagged", id="list as key, tagged"),
        pytest.param("1: c\n", "1: top level: found the number '1'", id="number as key"),
        pytest.param("~: c\n", "1: top level: found null '~'", id="null as key"),
        pytest.param(
            edited('tag: "3.1"', "tag: !!str [a]"), "images.pause.tag: found a sequence tagged", id="!!str list"
        ),
        pytest.param(edited('tag: "3.1"', "tag: !mine a"), "pause.tag: found a scalar tagged !mine 'a'", id="own tag"),
        pytest.param(edited("sources: [pause.c]", "sources: !!seq a"), "found a scalar tagged", id="!!seq scalar"),
        pytest.param(edited("EM_S390, class: 64", "EM_S390, class: !!int [64]"), "sequence tagged", id="!!int list"),
        pytest.param(edited("EM_S390, class: 64", "EM_S390, class: 0x40"), "found the number '0x40'", id="hexadecimal"),
        pytest.param(SHIPPED.replace(ROWS, "arches: {}\n"), "arches: found no row", id="no rows"),
        pytest.param(SHIPPED.replace(IMAGES, "images: {}\n"), "images: found no image", id="no images"),
        pytest.param(SHIPPED.replace(ROWS, ""), "found no key 'arches'", id="no arches"),
        pytest.param(edited("linux/s390x", "linux") + "x: [\n", "not YAML", id="no YAML below a row's mistake"),
        pytest.param(edited("linux/s390x", "linux") + "x: 1\n", "x: found unknown key", id="key below a mistake"),
        pytest.param(
            edited("  arm:\n", "  arm: &a\n").replace("images:\n", "  x: *a\nimages:\n"),
            "arches.x.platform: found platform linux/arm/v7, which row 'arm' has too",
            id="row that is an alias",
        ),
    ],
)
def test_an_invalid_document_is_one_message(tmp_path: Path, document: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path, document.encode())
    assert re.match(r"arches\.yaml:\d+: ", str(raised.value))
    assert message in str(raised.value).split("\n", 1)[0]


def test_the_position_of_bytes_that_are_not_utf_8_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^arches\.yaml:2: byte 5 is not UTF-8$"):
        read(tmp_path, b"a: \n \xff")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/nowhere\.yaml: can't be read: No such file"):
        read_settings(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(SHIPPED.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(b"\xef\xbb\xbf" + SHIPPED.encode(), id="byte order mark"),
        pytest.param(edited('tag: "3.1"', "tag: &t !!str 3.1").encode(), id="anchor and explicit tag"),
        pytest.param(
            edited("    qemu: arm\n    runtime: arm\n", "    qemu: &a arm\n    runtime: *a\n").encode(), id="alias"
        ),
    ],
)
def test_equivalent_spellings_give_the_same_settings(tmp_path: Path, same: bytes) -> None:
    assert read(tmp_path, same) == read(tmp_path, SHIPPED.encode())


# --- mutations of the shipped document ---

STANDARD = [f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "binary")]
WORDS = [
    "",
    "3.1",
    "64",
    "yes",
    "~",
    "linux/arm/v7",
    "pause.c",
    "{registry}/{arch}",
    "{registry}/{registry[a]}",
    "../x",
]
SCALARS = st.builds(yaml.ScalarNode, st.sampled_from(STANDARD), st.sampled_from(WORDS) | st.text(max_size=8))
NODES = st.recursive(
    SCALARS,
    lambda inner: (
        st.builds(yaml.SequenceNode, st.sampled_from(STANDARD), st.lists(inner, max_size=3))
        | st.builds(yaml.MappingNode, st.sampled_from(STANDARD), st.lists(st.tuples(inner, inner), max_size=3))
    ),
    max_leaves=4,
)


def containers(top: yaml.Node) -> list[yaml.CollectionNode]:
    """The node and its descendants that are non-empty collections. A document may contain itself."""
    found: dict[int, yaml.CollectionNode] = {}
    pending = [top]
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.CollectionNode) and node.value and id(node) not in found:
            found[id(node)] = node
            pending += [each for entry in node.value for each in (entry if isinstance(entry, tuple) else (entry,))]
    return list(found.values())


def mutate(top: yaml.Node, data: st.DataObject) -> None:
    inside = containers(top)
    if not inside:
        return
    parent = data.draw(st.sampled_from(inside))
    at = data.draw(st.integers(0, len(parent.value) - 1))
    entry = parent.value[at]
    key = (entry[0],) if isinstance(entry, tuple) else ()
    change = data.draw(st.sampled_from(["delete", "replace", "rename", "duplicate", "retag", "borrow"]))
    if change == "delete":
        del parent.value[at]
    elif change == "duplicate":
        parent.value.append(entry)
    elif change == "retag":
        parent.tag = data.draw(st.sampled_from(STANDARD))
    elif change == "rename" and key:
        parent.value[at] = (data.draw(SCALARS), entry[1])
    else:
        new = data.draw(st.sampled_from(inside) if change == "borrow" else NODES)
        parent.value[at] = (*key, new) if key else new


@examples(150)
@given(st.data())
def test_settings_or_one_message_with_a_line(tmp_path: Path, data: st.DataObject) -> None:
    top = yaml.compose(SHIPPED, Loader=yaml.SafeLoader)
    assert top
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(top, data)
    document = yaml.serialize(top, Dumper=DUMPER, allow_unicode=True)
    message = ""
    try:
        read(tmp_path, document.encode())
    except UsageError as error:
        message = str(error)
    if message:
        position = re.match(r"arches\.yaml:(\d+): ", message)
        assert position
        assert 1 <= int(position[1]) <= len(document.splitlines())


@examples(100)
@given(st.text(st.sampled_from("ab:-?[]{}&*!<|>'\"%@#,~ \n\t\0é")) | st.text())
def test_any_text_is_one_message(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"^arches\.yaml:\d+: "):
        read(tmp_path, text.encode())
