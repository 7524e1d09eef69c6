"""The layout on disk: what is put is what others read, whoever writes beside us, and damage is reported and mended."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from build.errors import PublishError
from build.image.layer import layer
from build.oci import image as images
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image, Index
from build.oci.media_types import OCI
from build.oci.platform import Platform
from build.oci.reference import Repository
from build.oci.tar import File
from build.stores.layout.clean import clean_layout
from build.stores.layout.layout import Layout
from tests.support.components import need

T = TypeVar("T")

ROOT = Path(__file__).parent.parent.parent
HERE = Repository.parse("oci:dist/pause")


def image(platform: str, content: str = "pause") -> Image:
    files = [File("/pause", 0o755, f"{content} {platform}".encode())]
    created = {"created": "2020-01-01T00:00:00Z"}
    return images.image_of({**Platform.parse(platform).fields(), **created, "config": {}}, [layer(files, 0)], OCI)


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def put(sink: Layout, tag: str, target: Image | Index) -> None:
    for each in target.images if isinstance(target, Index) else (target,):
        for blob in each.blobs:
            done(sink.put_blob(HERE, blob))
        done(sink.put_manifest(HERE, each.manifest))
    done(sink.put_manifest(HERE, target.manifest))
    done(sink.put_tag(HERE, tag, target))


def got(sink: Layout, blob: Blob) -> bytes:
    """The bytes of a blob, as the layout has them."""
    return done(sink.blob(HERE, blob.descriptor(), Path("/nowhere"))).data


@pytest.fixture
def sink(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dist/pause"


def blob_path(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")


AMD64 = image("linux/amd64")
BOTH = images.index_of([AMD64, image("linux/arm/v7")])


@pytest.mark.parametrize("target", [AMD64, BOTH], ids=["image", "index"])
def test_what_was_put_comes_back(sink: Layout, target: Image | Index) -> None:
    assert done(sink.digest(HERE, "3.1")) is None
    assert done(sink.manifest(HERE, "3.1")) is None
    put(sink, "3.1", target)
    assert done(sink.digest(HERE, "3.1")) == target.digest
    assert done(sink.manifest(HERE, "3.1")) == done(sink.manifest(HERE, target.digest)) == target.manifest
    assert done(sink.digest(HERE, "3.2")) is None
    for blob in AMD64.blobs:
        assert got(sink, blob) == blob.data


def test_a_blob_without_a_tag_is_no_manifest_of_a_tag(sink: Layout) -> None:
    done(sink.put_manifest(HERE, AMD64.manifest))
    assert done(sink.manifest(HERE, AMD64.digest)) == AMD64.manifest
    assert done(sink.manifest(HERE, "3.1")) is None
    assert done(sink.manifest(HERE, digest_of(b"nothing"))) is None


def test_the_files_are_a_layout_of_the_spec(sink: Layout, folder: Path) -> None:
    put(sink, "3.1", BOTH)
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((folder / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    (entry,) = index["manifests"]
    assert (entry["digest"], entry["size"]) == (BOTH.digest, len(BOTH.manifest.data))
    assert (entry["mediaType"], entry["annotations"]["org.opencontainers.image.ref.name"]) == (OCI.index, "3.1")
    blobs = list((folder / "blobs/sha256").iterdir())
    assert len(blobs) == 2 * 3 + 1
    assert all(digest_of(path.read_bytes()) == f"sha256:{path.name}" for path in blobs)


def test_skopeo_reads_what_was_put(sink: Layout, folder: Path) -> None:
    put(sink, "3.1", BOTH)
    put(sink, "amd64", AMD64)
    skopeo = need("skopeo", "skopeo")

    def inspect(*words: str) -> bytes:
        return subprocess.run([skopeo, "inspect", *words], check=True, stdout=subprocess.PIPE).stdout

    assert inspect("--raw", f"oci:{folder}:3.1") == BOTH.manifest.data
    assert inspect("--raw", f"oci:{folder}:amd64") == AMD64.manifest.data
    arm = ["--override-arch=arm", "--override-variant=v7", "--override-os=linux"]
    read = subprocess.run(
        [skopeo, *arm, "inspect", "--config", f"oci:{folder}:3.1"], check=True, stdout=subprocess.PIPE
    ).stdout
    assert Platform.of(json.loads(read)) == Platform("linux", "arm", "v7")
    copy = folder.parent / "copy"
    subprocess.run([skopeo, "copy", "--all", "--quiet", f"oci:{folder}:3.1", f"oci:{copy}:3.1"], check=True)
    copied = json.loads((copy / "index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in copied] == [BOTH.digest]


def test_what_skopeo_put_is_read_and_left_alone(sink: Layout, folder: Path, tmp_path: Path) -> None:
    put(Layout(tmp_path / "elsewhere"), "3.1", AMD64)
    folder.parent.mkdir()
    source = tmp_path / "elsewhere/dist/pause"
    subprocess.run(
        [need("skopeo", "skopeo"), "copy", "--quiet", f"oci:{source}:3.1", f"oci:{folder}:theirs"], check=True
    )
    assert done(sink.digest(HERE, "theirs")) == AMD64.digest
    put(sink, "3.1", BOTH)
    assert (done(sink.digest(HERE, "theirs")), done(sink.digest(HERE, "3.1"))) == (AMD64.digest, BOTH.digest)
    assert clean_layout(sink.base / HERE.name, dry=False) == [folder]
    assert (done(sink.digest(HERE, "theirs")), done(sink.digest(HERE, "3.1"))) == (AMD64.digest, None)
    assert {path.name for path in (folder / "blobs/sha256").iterdir()} == {
        blob.digest.removeprefix("sha256:") for blob in (*AMD64.blobs, AMD64.manifest)
    }


def test_a_tag_follows_the_last_put_and_others_stay(sink: Layout) -> None:
    put(sink, "3.1", AMD64)
    put(sink, "other", AMD64)
    put(sink, "3.1", BOTH)
    assert (done(sink.digest(HERE, "3.1")), done(sink.digest(HERE, "other"))) == (BOTH.digest, AMD64.digest)


def test_clean_removes_what_was_put_and_nothing_else(sink: Layout, folder: Path, tmp_path: Path) -> None:
    assert clean_layout(sink.base / HERE.name, dry=False) == []
    put(sink, "3.1", BOTH)
    assert clean_layout(sink.base / HERE.name, dry=True) == [folder]
    assert done(sink.digest(HERE, "3.1")) == BOTH.digest
    (folder / "notes").write_text("mine")
    assert clean_layout(sink.base / HERE.name, dry=False) == [folder]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "notes"]
    assert clean_layout(sink.base / HERE.name, dry=False) == []


def test_clean_removes_emptied_folders_and_leftovers_of_a_crash(sink: Layout, folder: Path, tmp_path: Path) -> None:
    put(sink, "3.1", AMD64)
    path = blob_path(folder, AMD64.digest)
    (path.parent / f".{path.name}.0123456789ab.tmp").write_bytes(b"half")
    (path.parent / f".{'0' * 64}.0123456789ab.tmp").write_bytes(b"of a blob that never came")
    (folder / ".index.json.0123456789ab.tmp").write_bytes(b"half")
    clean_layout(sink.base / HERE.name, dry=False)
    assert list(tmp_path.iterdir()) == []


PUT_TAGS = """
import sys
from pathlib import Path
from tests.stores.test_layout import AMD64, HERE, Layout, put
for number in range(10):
    put(Layout(Path(sys.argv[1])), f"{sys.argv[2]}.{number}", AMD64)
"""


def test_writers_side_by_side_lose_no_tag(sink: Layout) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", PUT_TAGS, str(sink.base), str(writer)], env=environment)
        for writer in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    tags = [f"{writer}.{number}" for writer in range(4) for number in range(10)]
    assert [tag for tag in tags if done(sink.digest(HERE, tag)) != AMD64.digest] == []


# --- damage ---


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"{}", b'{"manifests": {}}', b'{"manifests": [1]}', b'{"manifests": [{}]}', b"\xff",
     b'{"manifests": [{"digest": 1}]}', b'{"manifests": [{"digest": "sha256:0", "annotations": []}]}'],
)  # fmt: skip
def test_a_damaged_index_is_told(sink: Layout, folder: Path, data: bytes) -> None:
    put(sink, "3.1", AMD64)
    (folder / "index.json").write_bytes(data)
    for use in (
        lambda: done(sink.digest(HERE, "3.1")),
        lambda: done(sink.manifest(HERE, "3.1")),
        lambda: done(sink.put_tag(HERE, "3.1", AMD64)),
        lambda: clean_layout(sink.base / HERE.name, dry=False),
    ):
        with pytest.raises(PublishError, match=r"index\.json: not the index of an image layout: .*\n  delete it"):
            use()
    assert (folder / "index.json").read_bytes() == data


@pytest.mark.parametrize("damage", [b"", b"damaged"])
def test_a_damaged_blob_is_told_and_the_next_put_mends_it(sink: Layout, folder: Path, damage: bytes) -> None:
    put(sink, "3.1", AMD64)
    for blob in (*AMD64.blobs, AMD64.manifest):
        blob_path(folder, blob.digest).write_bytes(damage)
        with pytest.raises(
            PublishError,
            match=f"damaged: found sha256:.*, expected {blob.digest}|found {len(damage)} bytes, expected {blob.size} ",
        ):
            got(sink, blob)
        assert done(sink.digest(HERE, "3.1")) is None
        done(sink.put_blob(HERE, blob))
        assert got(sink, blob) == blob.data
        assert done(sink.digest(HERE, "3.1")) == AMD64.digest


@pytest.mark.parametrize("data", [b"not JSON", b"[]", b"null", b'{"layers": 1}', b'{"config": {}, "layers": [{}]}'])
def test_a_tag_of_what_is_no_manifest_harms_nobody(sink: Layout, folder: Path, data: bytes) -> None:
    put(sink, "3.1", AMD64)
    done(sink.put_blob(HERE, Blob.of("", data)))
    index = json.loads((folder / "index.json").read_bytes())
    theirs = {"annotations": {"org.opencontainers.image.ref.name": "theirs"}, "digest": digest_of(data)}
    index["manifests"].append({**theirs, "mediaType": "text/plain", "size": len(data)})
    (folder / "index.json").write_text(json.dumps(index))
    found = done(sink.manifest(HERE, "theirs"))
    assert found
    assert found.data == data
    assert done(sink.digest(HERE, "theirs")) == digest_of(data)
    assert clean_layout(sink.base / HERE.name, dry=False) == [folder]
    assert got(sink, Blob.of("", data)) == data


def tag_manifest(folder: Path, tag: str, data: bytes) -> None:
    """Tag bytes that somebody else put into the layout."""
    index = json.loads((folder / "index.json").read_bytes())
    entry = {"annotations": {"org.opencontainers.image.ref.name": tag}, "digest": digest_of(data), "size": len(data)}
    index["manifests"].append({**entry, "mediaType": OCI.index})
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "wrong", [7, None, "", "sha256:", "../../../etc/passwd", "sha256:" + "a/" * 32, "a\0b", "x" * 9999]
)
def test_a_tag_whose_manifest_has_no_digests_is_incomplete(sink: Layout, folder: Path, wrong: object) -> None:
    put(sink, "3.1", AMD64)
    data = json.dumps({"config": {"digest": wrong}, "manifests": [{"digest": wrong}]}).encode()
    done(sink.put_blob(HERE, Blob.of("", data)))
    tag_manifest(folder, "theirs", data)
    found = done(sink.digest(HERE, "theirs"))
    assert found is None or not isinstance(wrong, str)
    assert done(sink.digest(HERE, "3.1")) == AMD64.digest
    assert clean_layout(sink.base / HERE.name, dry=False) == [folder]
    assert got(sink, Blob.of("", data)) == data


def test_deeply_nested_indexes_are_read_once_each(sink: Layout, folder: Path) -> None:
    put(sink, "3.1", AMD64)
    child = AMD64.digest
    for _ in range(1500):
        data = json.dumps({"manifests": [{"digest": child}, {"digest": child}]}).encode()
        done(sink.put_blob(HERE, Blob.of("", data)))
        child = digest_of(data)
    tag_manifest(folder, "theirs", data)
    assert done(sink.digest(HERE, "theirs")) == child
    clean_layout(sink.base / HERE.name, dry=False)
    assert done(sink.digest(HERE, "theirs")) == child
    assert done(sink.digest(HERE, "3.1")) is None


def test_a_missing_blob_is_told(sink: Layout, folder: Path) -> None:
    put(sink, "3.1", AMD64)
    blob_path(folder, AMD64.config.digest).unlink()
    with pytest.raises(PublishError, match=f": blob {AMD64.config.digest}: No such file"):
        got(sink, AMD64.config)
    assert done(sink.digest(HERE, "3.1")) is None


def test_a_folder_that_cannot_be_is_told(sink: Layout, tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("a file")
    with pytest.raises(PublishError, match="/dist: found something that is not a folder, expected a folder"):
        done(sink.put_tag(HERE, "3.1", AMD64))
