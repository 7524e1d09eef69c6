"""The cache returns exactly what was stored; damaged or moved entries count as missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from build.cache.cache import Cache, key_of
from tests.support.properties import examples

DATA = b"a build result"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def entry(folder: Path) -> Path:
    (path,) = [path for path in files(folder) if path.name != "CACHEDIR.TAG"]
    return path


@examples(50)
@given(st.text(), st.binary())
def test_get_returns_what_put_stored(tmp_path: Path, key: str, data: bytes) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put(key, data)
    assert cache.get(key) == data
    assert Cache(tmp_path / "cache", keep=False).get(key) == data
    assert Cache(tmp_path / "other").get(key) is None


def test_another_key_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", DATA)
    assert cache.get("kez") is None


def test_the_last_put_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", DATA)
    cache.put("key", b"new")
    assert cache.get("key") == b"new"


def test_a_flipped_byte_anywhere_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", DATA)
    path = entry(tmp_path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for flip in (0x01, 0x80, 0x20):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
            assert cache.get("key") is None, at
    path.write_bytes(whole)
    assert cache.get("key") == DATA


def test_a_truncated_or_longer_entry_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", DATA)
    path = entry(tmp_path)
    whole = path.read_bytes()
    for damaged in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        path.write_bytes(damaged)
        assert cache.get("key") is None


def test_an_entry_under_another_key_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("mine", DATA)
    moved = entry(tmp_path).read_bytes()
    entry(tmp_path).unlink()
    cache.put("yours", b"x")
    entry(tmp_path).write_bytes(moved)
    assert cache.get("yours") is None


def test_a_folder_in_place_of_an_entry_is_a_miss(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("key", DATA)
    path = entry(tmp_path)
    path.unlink()
    path.mkdir()
    assert cache.get("key") is None


def test_keep_false_writes_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", keep=False)
    cache.put("key", DATA)
    assert cache.get("key") is None
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_marked_as_a_cache(tmp_path: Path) -> None:
    Cache(tmp_path).put("key", DATA)
    signature = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
    assert (tmp_path / "CACHEDIR.TAG").read_bytes().startswith(signature)


def test_clear_removes_a_marked_folder(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.clear() == []
    cache.put("key", DATA)
    assert cache.clear(dry=True) == [cache.folder]
    assert cache.get("key") == DATA
    assert cache.clear() == [cache.folder]
    assert list(tmp_path.iterdir()) == []


def test_clear_keeps_an_unmarked_folder(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(DATA)
    assert Cache(tmp_path).clear() == []
    assert (tmp_path / "precious").read_bytes() == DATA


def test_no_temporary_file_remains(tmp_path: Path) -> None:
    Cache(tmp_path).put("key", DATA)
    assert len(files(tmp_path)) == 2


parts = st.lists(st.text(max_size=4) | st.binary(max_size=4), max_size=4)


@examples(200)
@given(parts, parts)
def test_a_key_depends_on_how_its_parts_are_divided(one: list[str | bytes], other: list[str | bytes]) -> None:
    def raw(several: list[str | bytes]) -> list[bytes]:
        return [each.encode() if isinstance(each, str) else each for each in several]

    assume(raw(one) != raw(other))
    assert key_of(*one) != key_of(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", ""), ("a",)),
        (("", "a"), ("a", "")),
        (("1:a",), ("a",)),
        (("a", "b"), ("a1:b",)),
        (("a", "b"), ("b", "a")),
    ],
)
def test_keys_of_parts_divided_differently_differ(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert key_of(*one) != key_of(*other)


def test_text_and_its_utf_8_bytes_have_the_same_key() -> None:
    assert key_of("é") == key_of("é".encode()) == key_of("é")


def test_clear_removes_a_folder_whose_marking_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / ".CACHEDIR.TAG.0123456789ab.tmp").write_bytes(b"Sig")
    assert Cache(folder).clear() == [folder]
    assert not folder.exists()


def test_sign_writes_nothing_if_keep_is_false(tmp_path: Path) -> None:
    Cache(tmp_path / "cache", keep=False).sign()
    assert not (tmp_path / "cache").exists()
