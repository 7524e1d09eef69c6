"""The program that a container starts: layers, whiteouts, links, PATH and scripts; and damaged archives."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.errors import ImageError
from build.image.program import Command, program
from build.image.reader import LayerReader
from build.image.rootfs import Files
from build.oci.untar import LONGEST_HEADER
from tests.support.components import need
from tests.support.properties import examples
from tests.support.reading import digest
from tests.support.strangers import elf, tape

ELF = elf("amd64")
OTHER = elf("s390x")


def reader(data: bytes, compressed: bool = False) -> LayerReader:
    return LayerReader(io.BytesIO(data), compressed, len(data))


def found(layers: list[bytes], *words: str, path: str = "/usr/bin:/bin", folder: str = "/") -> tuple[str, bytes]:
    files = Files()
    for each in layers:
        files.add(reader(each))
    command = Command(words or ("/app",), path, folder)
    read = program(files, command, lambda number: reader(layers[number]), len(ELF))
    return read.path, read.data


def test_the_last_layer_with_the_file_is_used() -> None:
    assert found([tape({"app": OTHER}), tape({"./app": ELF}), tape({"else": b""})]) == ("/app", ELF)


@pytest.mark.parametrize(
    ("files", "hard", "words"),
    [
        pytest.param({"bin/": None, "bin/box": ELF, "bin/sh": "box"}, {}, ["/bin/sh"], id="relative symlink"),
        pytest.param({"bin/sh": "/lib/box", "lib/box": ELF}, {}, ["/bin/sh"], id="absolute symlink"),
        pytest.param({"bin": "usr/bin", "usr/bin/sh": ELF}, {}, ["/bin/sh"], id="usr-merge"),
        pytest.param({"a/b/c": "../../../../x/sh", "x/sh": ELF}, {}, ["/a/b/c"], id="no way out of the root"),
        pytest.param({"bin/box": ELF}, {"bin/sh": "bin/box"}, ["/bin/sh"], id="hard link"),
        pytest.param({"usr/bin/sh": ELF}, {}, ["sh"], id="PATH"),
        pytest.param({"srv/app": ELF}, {}, ["./app"], id="working directory"),
        pytest.param({"run": b"#!/bin/sh -e\n", "bin/sh": ELF}, {}, ["/run"], id="script"),
        pytest.param({"run": b"#! /usr/bin/env sh", "usr/bin/env": ELF}, {}, ["/run"], id="env"),
        pytest.param({"run": b"#!/two\n", "two": b"#!/sh\n", "sh": ELF}, {}, ["/run"], id="script of a script"),
        pytest.param({"n" * 90 + "/" + "m" * 200: ELF}, {}, ["/" + "n" * 90 + "/" + "m" * 200], id="long name"),
    ],
)
def test_links_scripts_and_path(files: dict[str, bytes | str | None], hard: dict[str, str], words: list[str]) -> None:
    assert found([tape(files, hard)], *words, folder="/srv")[1] == ELF


def test_path_search_skips_files_that_are_not_executable() -> None:
    layers = [tape({"usr/bin/sh": OTHER}, mode=0o644), tape({"bin/sh": ELF})]
    assert found(layers, "sh") == ("/bin/sh", ELF)


@pytest.mark.parametrize(
    "upper",
    [
        pytest.param({"a/b/.wh.app": b""}, id="the file"),
        pytest.param({"a/.wh.b": b""}, id="its folder"),
        pytest.param({"a/.wh..wh..opq": b""}, id="what is in a folder above"),
        pytest.param({"a/b/": None, "a/b/.wh..wh..opq": b""}, id="what is in its folder"),
        pytest.param({"a": b"a file"}, id="replaced by a file"),
        pytest.param({"a": "nowhere"}, id="replaced by a link"),
    ],
)
def test_a_hidden_or_replaced_file_is_not_found(upper: dict[str, bytes | str | None]) -> None:
    lower = tape({"a/b/app": ELF})
    assert found([lower], "/a/b/app")[1] == ELF
    with pytest.raises(ImageError, match="no file '/a/b/app'"):
        found([lower, tape(upper)], "/a/b/app")


@pytest.mark.parametrize(
    "upper",
    [
        {"a/b/app": ELF, "a/.wh.b": b""},
        {"a/.wh..wh..opq": b"", "a/b/app": ELF},
        {"a/b/app": ELF, "a/.wh..wh..opq": b""},
        {"a/b/.wh.app": b"", "a/b/app": ELF},
        {"a/": None, "a/b/": None, "a/b/app": ELF, "a/b/.wh.app": b""},
    ],
)
def test_a_whiteout_does_not_affect_its_own_layer(upper: dict[str, bytes | str | None]) -> None:
    lower = tape({"a/b/app": OTHER, "a/b/other": OTHER})
    assert found([lower, tape(upper)], "/a/b/app")[1] == ELF


def test_a_repeated_folder_keeps_its_files() -> None:
    assert found([tape({"a/app": ELF}), tape({"a": None})], "/a/app")[1] == ELF


def test_a_layer_writes_through_a_symlink_to_a_folder() -> None:
    assert found([tape({"usr/bin/": None, "bin": "usr/bin"}), tape({"bin/sh": ELF})], "/usr/bin/sh")[1] == ELF


@pytest.mark.parametrize(
    ("files", "mode", "message"),
    [
        pytest.param({"x": ELF}, 0o755, "no file '/app'", id="missing"),
        pytest.param({"app": "app"}, 0o755, "no file '/app'", id="a link to itself"),
        pytest.param({"app": None}, 0o755, "no file '/app'", id="a folder"),
        pytest.param({"app": ELF}, 0o644, "not executable: found mode 0644", id="not executable"),
        pytest.param({"app": b"#!/bin/sh\n"}, 0o755, "its interpreter '/bin/sh' is not", id="no interpreter"),
        pytest.param({"app": b"#!\n"}, 0o755, "without an interpreter", id="empty #! line"),
        pytest.param({"app": b"#!/app\n"}, 0o755, "nested interpreters", id="its own interpreter"),
    ],
)
def test_an_unusable_program_is_refused(files: dict[str, bytes | str | None], mode: int, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        found([tape(files, mode=mode)])


def test_gzip_of_several_members_is_one_archive() -> None:
    archive = tape({"app": ELF})
    packed = gzip.compress(archive[:512]) + gzip.compress(archive[512:])
    one = reader(packed, compressed=True)
    assert [entry.name for entry in one.entries()] == ["app"]
    assert one.digest() == digest(archive)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_the_size_of_extended_headers_is_limited(kind: bytes) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, LONGEST_HEADER + 1
    with pytest.raises(ImageError, match="an extended tar header"):
        list(reader(member.tobuf()).entries())


def test_the_length_of_paths_is_limited() -> None:
    with pytest.raises(ImageError, match="more than 4096 characters"):
        found([tape({"d/" * 2500: ELF})])


def test_a_deep_path_is_no_recursion() -> None:
    assert found([tape({"d/" * 1500 + "app": ELF})], "/" + "d/" * 1500 + "app")[1] == ELF
    assert found([tape({"d/" * 1500 + "app": ELF}), tape({".wh.d": b"", "app": ELF})])[1] == ELF


@examples(300)
@given(st.data())
def test_damaged_archives_are_image_errors(data: st.DataObject) -> None:
    archive = bytearray(tape({"bin/box": ELF, "n" * 120: b"#!/bin/box", "app": "bin/box"}, {"x": "bin/box"}))
    for _ in range(data.draw(st.integers(1, 8))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(archive[: data.draw(st.integers(0, len(archive)))])
    packed = data.draw(st.booleans())
    files, one = Files(), reader(gzip.compress(cut) if packed else cut, packed)
    try:
        files.add(one)
    except ImageError:
        return
    assert one.digest() == digest(cut)


@examples(200)
@given(st.binary(max_size=600))
def test_random_bytes_are_image_errors(noise: bytes) -> None:
    for compressed in (True, False):
        try:
            list(reader(noise, compressed).entries())
        except ImageError as error:
            assert str(error)  # noqa: PT017


def test_pax_headers_are_read() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("ä" * 100 + "/app")
        member.size, member.mode, member.mtime = len(ELF), 0o755, 1.5
        archive.addfile(member, io.BytesIO(ELF))
    assert found([buffer.getvalue()], "/" + "ä" * 100 + "/app")[1] == ELF


# --- archives that readers could take differently, or that would cost any amount of time or memory ---


def header(name: str = "app", kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    """A header block alone."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, size, 0o755
    return member.tobuf(tarfile.GNU_FORMAT)


def edited(block: bytes, at: int, data: bytes) -> bytes:
    """A header block with other bytes at an offset, and the right checksum."""
    block = block[:at] + data + block[at + len(data) :]
    block = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def content(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = next(n for n in range(len(rest), len(rest) + 9) if n == len(str(n)) + len(rest))
    return str(length).encode() + rest


def extended(data: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header: pax records, or a long name."""
    return header("extended", kind, len(data)) + content(data)


HEAD, DATA = header("app", size=len(ELF)), content(ELF)
APP = HEAD + DATA
END = bytes(1024)
# The magic and the version of POSIX, and 132 characters of a prefix.
LONG_PREFIX = edited(edited(HEAD, 257, b"ustar\00000"), 345, b"p" * 132)
SPARSE_1 = record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0")


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (header(size=1 << 60), "a tar member of size"),
        (extended(record("size", str(1 << 62))) + header() + END, "a tar member of size"),
        (extended(record("size", "1e3")) + header() + END, "a tar member of size '1e3'"),
        (edited(header(), 124, b"\xff" * 12) + END, "a tar member of size"),
        (extended(record("path", "a")) + extended(record("path", "b")) + APP + END, "several extended tar headers"),
        (extended(record("path", "a")) * 2000 + APP + END, "several extended tar headers"),
        (extended(record("path", "a")) + extended(b"b\0", b"L") + APP + END, "several extended tar headers"),
        (extended(b"b\0", b"L") * 2 + APP + END, "several extended tar headers"),
        (extended(record("comment", "a"), b"g") * 2000 + APP + END, "not a tar archive|of tar headers"),
        (extended(b"x" * (1 << 20), b"K") + extended(b"x" * (1 << 20), b"L") + APP + END, "of tar headers"),
        (extended(b"junk") + APP + END, "a malformed pax header"),
        (extended(b"99 path=a\n") + APP + END, "a malformed pax header"),
        (extended(b"9 path=ab\n") + APP + END, "a malformed pax header"),
        (extended(record("path", "")) + APP + END, "a malformed pax header"),
        (extended(record("path", "a\0b")) + APP + END, "a malformed pax header"),
        (header("x", b"x", 10) + content(b"10 path=a\n" + b"10 path=b\n") + APP + END, "data in its padding"),
        (header("x", b"L", 1) + content(b"ab\0") + APP + END, "data in its padding"),
        (
            extended(b"n" * 200, b"L") + edited(header("n" * 99 + "/"), 156, b"\0") + END,
            "a file or a folder, depending on the reader",
        ),
        (extended(SPARSE_1) + header(size=512) + content(b"junk\n") + END, "a sparse file"),
        (extended(record("GNU.sparse.map", "0,9")) + APP + END, "a sparse file"),
        (extended(record("GNU.sparse.size", "9")) + APP + END, "a sparse file"),
        (edited(header(), 156, b"S") + END, "of type 'S'"),
        (edited(header(), 156, b"V") + END, "of type 'V'"),
        (edited(header(), 156, b"7") + END, "of type '7'"),
        (extended(record("path", "a"), b"X") + APP + END, "of type 'X'"),
        (extended(record("path", "a")) + extended(record("comment", "b"), b"g") + APP + END, "several extended"),
        (extended(b"a\0", b"L") + extended(record("path", "b")) + APP + END, "several extended tar headers"),
        (extended(b"a\0", b"K") + extended(record("comment", "b")) + APP + END, "several extended tar headers"),
        (extended(b"\0", b"L") + APP + END, "an empty path"),
        (extended(record("path", "a") + b"\0\0") + APP + END, "a malformed pax header"),
        (edited(HEAD, 345, b"usr") + DATA + END, "whose prefix is part of the path"),
        (edited(edited(HEAD, 257, bytes(8)), 345, b"usr") + DATA + END, "whose prefix is part of the path"),
        (edited(LONG_PREFIX, 508, b"tar\0") + DATA + END, "whose prefix is part of the path"),
        (edited(HEAD, 124, b"0000000_100\0") + DATA + END, "a number that is not octal"),
        (edited(HEAD, 124, b"\x00000002000\0") + DATA + END, "a number that is not octal"),
        (header(kind=b"5", size=512) + APP + END, "content that is no file"),
        (edited(HEAD, 0, b"app/") + DATA + END, "a file or a folder, depending on the reader"),
        (extended(record("path", "app/")) + edited(HEAD, 156, b"\0") + DATA + END, "a file or"),
        (bytes(512) + APP + END, "data behind a block of zeros"),
        (APP + bytes(512) + APP + END, "data behind a block of zeros"),
        (APP + b"junk" * 128 + APP + END, "not a tar archive"),
        (APP[:-512], "ends within a member"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_ambiguous_or_endless_archive_is_refused(archive: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        found([archive])


@pytest.mark.parametrize("head", [LONG_PREFIX, edited(HEAD, 257, bytes(8))], ids=["POSIX", "before POSIX"])
def test_a_header_of_another_format_is_read(head: bytes) -> None:
    path = "/app" if head != LONG_PREFIX else "/" + "p" * 132 + "/app"
    assert found([head + DATA + END], path) == (path, ELF)


@pytest.mark.parametrize("key", ["comment", "mtime"])
def test_global_headers_that_change_nothing_are_ignored(key: str) -> None:
    assert found([extended(record(key, "512"), b"g") + APP + END]) == ("/app", ELF)


@pytest.mark.parametrize("key", ["path", "linkpath", "size", "uid", "SCHILY.xattr.user.x", "charset"])
def test_global_headers_that_some_readers_apply_are_refused(key: str) -> None:
    with pytest.raises(ImageError, match=f"a global tar header with '{key}'"):
        found([extended(record(key, "512"), b"g") + APP + END])


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_sparse_files_of_gnu_tar_are_refused(tmp_path: Path, form: str) -> None:
    need("tar", "tar")
    with (tmp_path / "app").open("wb") as file:
        file.write(ELF)
        file.seek(1 << 20, os.SEEK_CUR)
        file.write(b"end")
    command = ["tar", "-cS", "--hole-detection=raw", f"--format={form}", "-C", str(tmp_path), "app"]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    with pytest.raises(ImageError, match=r"a sparse file|of type 'S'"):
        found([archive])
