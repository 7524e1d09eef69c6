"""Layers: the same files give the same bytes, and other tools extract the same files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from build.errors import ImageError
from build.image.layer import layer
from build.oci.descriptor import digest_of
from build.oci.image import Layer
from build.oci.tar import LARGEST, File, tar
from tests.support.components import need
from tests.support.properties import examples

ROOT = Path(__file__).parent.parent.parent
TIME = 1700000000

components = st.text(st.characters(categories=["L", "N"]) | st.sampled_from("._- "), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
long_components = st.integers(60, 95).map(lambda length: "n" * length)
paths = st.lists(components | long_components, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
contents = (
    st.binary(max_size=600)
    | st.sampled_from([0, 511, 512, 513, 1024]).map(lambda size: b"x" * size)
    | st.lists(st.sampled_from([b"abc", b"\0" * 40, b"pause"]), max_size=200).map(b"".join)
)
modes = st.sampled_from([0o644, 0o755, 0o600, 0o4755, 0o400, 0o777])


def fits(path: str) -> bool:
    """Whether the path fits a tar header wherever its slashes are, and its names fit a file system."""
    return len(path.encode()) <= 155 and all(len(part.encode()) <= 90 for part in path.split("/"))


@st.composite
def file_sets(draw: st.DrawFn) -> list[File]:
    names = draw(st.lists(paths.filter(fits), max_size=5, unique=True))
    folders = {parent for name in names for parent in Path(name).parents}
    return [File(name, draw(modes), draw(contents)) for name in names if Path(name) not in folders]


def entries(archive: bytes) -> list[tuple[str, int, int, int, int, bytes | None]]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as archive_file:
        for entry in archive_file:
            file = archive_file.extractfile(entry)
            name = "/" + entry.name
            found.append((name, entry.mode, entry.uid, entry.gid, int(entry.mtime), file.read() if file else None))
    return found


@examples(120)
@given(file_sets(), st.integers(0, LARGEST))
def test_python_reads_the_same_files(files: list[File], time: int) -> None:
    archive = tar(files, time)
    found = entries(archive)
    assert {each[0]: (*each[1:],) for each in found if each[5] is not None} == {
        file.path: (file.mode, 0, 0, time, file.data) for file in files
    }
    folders = [each for each in found if each[5] is None]
    assert {each[0] for each in folders} == {str(up) for file in files for up in Path(file.path).parents} - {"/"}
    assert all(each[1:5] == (0o755, 0, 0, time) for each in folders)
    seen = {"/"}
    for name, *_ in found:
        assert str(Path(name).parent) in seen
        assert name not in seen
        seen.add(name)


@examples(120)
@given(file_sets(), st.randoms(use_true_random=False))
def test_a_layer_is_its_archive_compressed_in_any_order_of_files(files: list[File], random: Random) -> None:
    made = layer(files, TIME)
    archive = zlib.decompress(made.data, wbits=31)
    assert archive == tar(files, TIME)
    assert made.diff_id == digest_of(archive)
    assert len(archive) % 512 == 0
    assert archive[-1024:] == bytes(1024)
    shuffled = list(files)
    random.shuffle(shuffled)
    assert layer(shuffled, TIME) == made


@examples(15)
@given(file_sets())
def test_the_systems_tar_extracts_the_same_files(tmp_path_factory: pytest.TempPathFactory, files: list[File]) -> None:
    assume(files)
    folder = tmp_path_factory.mktemp("extracted")
    packed = folder / "layer.tar.gz"
    packed.write_bytes(layer(files, TIME).data)
    subprocess.run([need("gzip", "gzip"), "-t", packed], check=True)
    tar_command = [need("tar", "tar"), "--numeric-owner", "--same-permissions", "--quoting-style=literal"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    listing = subprocess.run(
        [*tar_command, "-tvf", packed], check=True, stdout=subprocess.PIPE, env=environment, text=True
    ).stdout.splitlines()
    assert all(" 0/0 " in line and "2023-11-14 22:13" in line for line in listing)
    out = folder / "out"
    out.mkdir()
    subprocess.run([*tar_command, "--no-same-owner", "-xf", packed, "-C", out], check=True, env=environment)
    extracted = {f"/{path.relative_to(out)}": path for path in out.rglob("*") if path.is_file()}
    assert set(extracted) == {file.path for file in files}
    for file in files:
        path = extracted[file.path]
        assert path.stat().st_mode & 0o7777 == file.mode
        assert path.stat().st_mtime == TIME
        assert path.read_bytes() == file.data


GOLDEN = [
    File("/pause", 0o755, bytes(range(256)) * 3),
    File("/etc/Grüße", 0o644, b""),
    File("/a/" + "n" * 99, 0o600, b"a"),
]


def golden() -> Layer:
    return layer(GOLDEN, TIME)


def test_the_bytes_have_not_changed() -> None:
    # A change here changes the digest of every image, so it must be intended.
    made = golden()
    assert (digest_of(made.data), made.diff_id) == (
        "sha256:c427c5d8333805511bf94d3033611cefb32b579ecfd4b2b2a87bfe0f983af0ec",
        "sha256:f36888a73eafdb78c818e07eed4937349ad4b12db8908c548237b533c30e164b",
    )


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_the_bytes_do_not_depend_on_the_hash_seed(seed: str) -> None:
    script = "from tests.image.test_layer import golden, digest_of; print(digest_of(golden().data))"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert run.stdout.strip() == digest_of(golden().data)


def test_the_gzip_header_has_no_metadata() -> None:
    # RFC 1952: magic, deflate, no flags (so no name), no time, no extra flags, system unknown.
    assert golden().data[:10] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("pause", "expected an absolute path", id="relative"),
        pytest.param("", "expected an absolute path", id="empty"),
        pytest.param("/", "not the path of a file", id="root"),
        pytest.param("/a/../b", "without '..'", id="dots"),
        pytest.param("/..", "without '..'", id="only dots"),
        pytest.param("/a\0b", "not the path of a file", id="NUL"),
        pytest.param("/" + "n" * 101, "too long for a tar header", id="long name"),
        pytest.param("/" + "n" * 156 + "/a", "too long for a tar header", id="long folder"),
        pytest.param("/" + "é" * 51, "too long for a tar header", id="long in bytes"),
    ],
)
def test_a_path_that_does_not_fit_a_header_is_refused(path: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        tar([File(path, 0o644, b"")], TIME)


@pytest.mark.parametrize("length", [99, 100])
def test_the_longest_name_and_folder_that_fit_a_header(length: int) -> None:
    path = "/" + "f" * 60 + "/" + "f" * 39 + "/" + "n" * length
    assert entries(tar([File(path, 0o644, b"")], TIME))[-1][0] == path


@pytest.mark.parametrize("order", [1, -1])
def test_a_path_can_not_be_both_file_and_folder(order: int) -> None:
    files = [File("/a", 0o644, b""), File("/a/b/c", 0o644, b"")][::order]
    with pytest.raises(ImageError, match="/a would be both a file and the folder of /a/b/c"):
        tar(files, TIME)


def test_of_two_files_with_the_same_path_the_last_is_used() -> None:
    found = entries(tar([File("/a", 0o644, b"1"), File("/./a", 0o755, b"2")], TIME))
    assert found == [("/a", 0o755, 0, 0, TIME, b"2")]
