"""What differs in images for Windows: layers, paths, and how a program is found."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile

import pytest

from build.errors import ImageError
from build.image.program import Command
from build.image.reader import LayerReader
from build.image.rootfs import Files
from build.image.windows.layer import windows_layer
from build.image.windows.paths import in_layer
from build.image.windows.program import windows_program
from build.oci.tar import File, Folder, tar
from tests.support.strangers import tape


def test_the_form_of_a_layer() -> None:
    made = windows_layer([File("/Files/app/pause.exe", 0o755, b"MZ")], 7)
    assert windows_layer([File("/Files/app/pause.exe", 0o755, b"MZ")], 7) == made
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(made.data))) as archive:
        members = archive.getmembers()
    assert [each.name for each in members] == ["Files", "Files/app", "Files/app/pause.exe", "Hives"]
    assert [each.isdir() for each in members] == [True, True, False, True]
    for each in members:
        assert (each.uid, each.gid, each.uname, each.gname, each.mtime) == (0, 0, "", "", 7)
        assert each.pax_headers.keys() == {"MSWINDOWS.rawsd"}
        raw = base64.b64decode(each.pax_headers["MSWINDOWS.rawsd"], validate=True)
        assert raw[:4] == b"\x01\x00\x00\x80", "revision 1, self-relative"
        owner, group = (int.from_bytes(raw[at : at + 4], "little") for at in (4, 8))
        users = b"\x01\x02" + b"\0\0\0\0\0\x05" + (32).to_bytes(4, "little") + (545).to_bytes(4, "little")
        assert (raw[owner : owner + 16], raw[group : group + 16]) == (users, users), "S-1-5-32-545"


def test_our_own_reader_takes_it() -> None:
    made = windows_layer([File("/Files/pause.exe", 0o755, b"MZ")], 0)
    files = Files()
    files.add(LayerReader(io.BytesIO(made.data), True, len(made.data)))
    assert files.file("/Files/pause.exe")
    assert files.is_folder("/Hives")


@pytest.mark.parametrize(
    "value", ["x" * length for length in (70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 971, 972, 973)]
)
def test_the_length_of_a_record_counts_itself(value: str) -> None:
    archive = tar([Folder("/a")], 0, records={"MSWINDOWS.rawsd": value})
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert [each.pax_headers for each in opened] == [{"MSWINDOWS.rawsd": value}]


def test_without_records_it_is_ustar() -> None:
    assert tar([Folder("/a")], 0) == tar([Folder("/a")], 0, records={})
    assert b"PaxHeaders" not in tar([Folder("/a")], 0)


@pytest.mark.parametrize(
    ("folder", "path", "expected"),
    [
        ("/", "/pause.exe", "/Files/pause.exe"),
        ("/", "pause.exe", "/Files/pause.exe"),
        ("/", r"C:\app\pause.exe", "/Files/app/pause.exe"),
        ("/", "c:/app/", "/Files/app/"),
        ("/", "/", "/Files/"),
        (r"C:\app", "x", "/Files/app/x"),
        (r"C:\app", r"..\x", "/Files/x"),
        ("/", "/../../x", "/Files/x"),
    ],
)
def test_where_layers_have_a_path(folder: str, path: str, expected: str) -> None:
    assert in_layer(folder, path) == expected


def test_layers_have_one_drive() -> None:
    with pytest.raises(ImageError, match="found a path on drive D:, expected one on C:"):
        in_layer("/", r"D:\x")


FILES = {"Files/Pause.exe": b"MZ", "Files/Windows/System32/cmd.exe": b"MZcmd", "Files/tool": b"MZtool", "Hives": None}


def found(*words: str, path: str = r"C:\Windows\system32;C:\Windows", folder: str = "/") -> str:
    archive = tape(FILES)
    files = Files()
    files.add(LayerReader(io.BytesIO(archive), False, len(archive)))
    program = windows_program(
        files, Command(words, path, folder), lambda _: LayerReader(io.BytesIO(archive), False, len(archive)), 100
    )
    assert program.data.startswith(b"MZ")
    return program.path


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/pause.exe", "/Pause.exe"),
        ("/PAUSE", "/Pause.exe"),
        (r"c:\pause.exe", "/Pause.exe"),
        (r"C:\\Windows\\system32\\cmd.exe", "/Windows/System32/cmd.exe"),
        ("cmd", "/Windows/System32/cmd.exe"),
        ("CMD.EXE", "/Windows/System32/cmd.exe"),
        ("tool", "/tool"),
    ],
)
def test_how_a_program_is_found(word: str, expected: str) -> None:
    assert found(word) == expected


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ImageError, match=r"no program '/app' in the layers: found none of /app, /app\.exe"):
        found("/app")
    with pytest.raises(ImageError, match="no program 'cmd' in the layers"):
        found("cmd", path=r"C:\elsewhere")
