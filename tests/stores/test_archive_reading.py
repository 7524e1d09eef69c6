"""Archives that are not what they should be: one clear message each, whatever is in them."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import re
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.config.release import Release
from build.errors import BuildError, PublishError
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image, dump
from build.oci.media_types import DOCKER, OCI
from build.oci.platform import Platform
from build.oci.reference import Repository
from build.release.archive import Destination
from build.release.copy.pack import pack
from build.report import silent
from build.stores.archive.archive import Archive
from build.stores.archive.write import Entry
from build.stores.archive.write import archive as write_bytes
from build.stores.store import SMALL
from tests.support.checkout import SETTINGS, Checkout, Run
from tests.support.properties import examples

Released = tuple[Checkout, Run]
Files = dict[str, bytes]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def archive(released: Released, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A release of two arches in an archive."""
    folder = tmp_path_factory.mktemp("archive")
    checkout = Checkout.clone(released[0].root, folder / "checkout")
    checkout("all-push", "--arch", "amd64", "--arch", "arm")
    checkout("copy", "oci:dist", "oci-archive:release.tar", "--arch", "amd64", "--arch", "arm")
    return (checkout.root / "release.tar").read_bytes()


def copied(data: bytes, folder: Path) -> list[str]:
    """The digests of the release in an archive, which is copied to a second one; BuildError if there is none."""

    def release(file: str) -> Release:
        arches = SETTINGS.select(["amd64", "arm"])
        return Release(SETTINGS.image("pause"), arches, f"oci-archive:{file}", "3.1")

    (folder / "in.tar").write_bytes(data)
    (folder / "out.tar").unlink(missing_ok=True)
    try:
        to = Destination("out.tar", folder / "out.tar", overwrite=True, dry=False, report=silent)
        with TemporaryDirectory() as scratch:
            packing = pack(
                [release("in.tar")], Archive(folder / "in.tar"), [release("out.tar")], to, Path(scratch), referrers=True
            )
            made = asyncio.run(packing)
    except BuildError:
        assert not (folder / "out.tar").exists()
        raise
    assert (folder / "out.tar").exists()
    return [str(each.digest) for each in made]


def outcome(data: bytes, folder: Path) -> list[str] | None:
    """The digests, or None after a message that names the file."""
    try:
        return copied(data, folder)
    except BuildError as error:
        message = str(error)
    assert "in.tar" in message
    return None


def refused(data: bytes, folder: Path) -> str:
    with pytest.raises(BuildError) as caught:
        copied(data, folder)
    return str(caught.value)


def unpacked(data: bytes) -> Files:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {each.name: file.read() for each in opened if (file := opened.extractfile(each))}


def packed(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar of these files; those without content are of another `kind`."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as opened:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(data), tarfile.REGTYPE if data else kind
            opened.addfile(entry, io.BytesIO(data))
    return made.getvalue()


@given(data=st.data())
@examples(60)
def test_cut_short_it_is_the_same_release_or_refused(archive: bytes, tmp_path: Path, data: st.DataObject) -> None:
    whole = copied(archive, tmp_path)
    length = data.draw(st.integers(0, len(archive)))
    assert outcome(archive[:length], tmp_path) in (whole, None)


@given(data=st.data())
@examples(200)
def test_with_other_bytes_it_is_the_same_release_or_refused(
    archive: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    whole = copied(archive, tmp_path)
    changed = bytearray(archive)
    chance = random.Random(data.draw(st.integers(0, 1 << 32)))
    used = [at for at, byte in enumerate(archive) if byte]  # most of it is padding
    for _ in range(chance.randint(1, 4)):
        changed[chance.choice(used)] = chance.randrange(256)
    assert outcome(bytes(changed), tmp_path) in (whole, None)


def places(value: Any) -> Iterator[Callable[[Any], None]]:
    """Setters for every value inside of a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield partial(value.__setitem__, key)
        yield from places(value[key])


@given(data=st.data())
@examples(300)
def test_whoever_forges_a_document_gets_a_message(archive: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Index, list, manifest or config says anything at all somewhere, and all that refers to it has its new digest."""
    files = unpacked(archive)
    index = json.loads(files["index.json"])
    listed = json.loads(files[_path(index["manifests"][0]["digest"])])
    manifest = json.loads(files[_path(index["manifests"][1]["digest"])])
    config = json.loads(files[_path(manifest["config"]["digest"])])

    document = data.draw(st.sampled_from([index, listed, manifest, config]))
    data.draw(st.sampled_from(list(places(document))))(data.draw(JSON))
    try:
        if document is config:
            _refer(manifest["config"], config, files)
        if document is config or document is manifest:
            _refer(index["manifests"][1], manifest, files)
            _refer(listed["manifests"][0], manifest, files)
        if document is not index:
            _refer(index["manifests"][0], listed, files)
        files["index.json"] = dump(index)
    except UnicodeEncodeError:
        return  # half of a surrogate pair is no JSON
    outcome(packed(*files.items()), tmp_path)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _refer(descriptor: dict[str, Any], document: Any, files: Files) -> None:
    data = dump(document)
    descriptor |= {"digest": digest_of(data), "size": len(data)}
    files[_path(digest_of(data))] = data


def test_a_layer_may_be_no_tar(archive: bytes, tmp_path: Path) -> None:
    files = unpacked(archive)
    index = json.loads(files["index.json"])
    manifest = json.loads(files[_path(index["manifests"][1]["digest"])])
    config = json.loads(files[_path(manifest["config"]["digest"])])
    junk = gzip.compress(b"junk" * 999)
    manifest["layers"][0] |= {"digest": digest_of(junk), "size": len(junk)}
    files[_path(digest_of(junk))] = junk
    config["rootfs"]["diff_ids"] = [digest_of(b"junk" * 999)]
    _refer(manifest["config"], config, files)
    _refer(index["manifests"][1], manifest, files)
    files["index.json"] = dump(index)
    assert "amd64: oci-archive:in.tar:pause-amd64:3.1: " in refused(packed(*files.items()), tmp_path)


def twice(listed: dict[str, Any]) -> None:
    listed["manifests"].append(listed["manifests"][0])


def too_few(listed: dict[str, Any]) -> None:
    listed["manifests"].pop()


def for_another_platform(listed: dict[str, Any]) -> None:
    listed["manifests"][1]["platform"]["variant"] = "v6"


def of_another_size(listed: dict[str, Any]) -> None:
    listed["manifests"][0]["size"] += 1


def of_docker(listed: dict[str, Any]) -> None:
    listed["mediaType"] = DOCKER.index


def of_nothing(listed: dict[str, Any]) -> None:
    listed["mediaType"] = "text/html"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (twice, ["has other images", "found sha256:", "linux/amd64"]),
        (too_few, ["has other images", "expected sha256:", "linux/arm/v7"]),
        (for_another_platform, ["has other images", "linux/arm/v6", "linux/arm/v7"]),
        (of_another_size, ["has other images", "found sha256:", "expected sha256:"]),
        (of_docker, [f"media type: found {DOCKER.index!r}, expected {OCI.index!r}"]),
        (of_nothing, ["media type: found 'text/html', expected"]),
    ],
)
def test_a_list_that_is_not_its_images_is_refused(
    archive: bytes, tmp_path: Path, fault: Callable[[dict[str, Any]], None], words: list[str]
) -> None:
    files = unpacked(archive)
    index = json.loads(files["index.json"])
    listed = json.loads(files[_path(index["manifests"][0]["digest"])])
    fault(listed)
    _refer(index["manifests"][0], listed, files)
    message = refused(packed(*(files | {"index.json": dump(index)}).items()), tmp_path)
    assert message.startswith("oci-archive:in.tar:pause:3.1: ")
    for word in words:
        assert word in message


def test_each_fault_has_its_words(archive: bytes, tmp_path: Path) -> None:
    files = unpacked(archive)
    blob = next(path for path in files if path.startswith("blobs/"))

    def without(path: str) -> bytes:
        return packed(*((each, data) for each, data in files.items() if each != path))

    def but(path: str, data: bytes) -> bytes:
        return packed(*(files | {path: data}).items())

    index = json.loads(files["index.json"])
    again = index["manifests"][1] | {"annotations": index["manifests"][0]["annotations"]}
    twice = dump({**index, "manifests": [*index["manifests"], again]})
    for data, words in (
        (gzip.compress(archive), "found a gzip file, expected a plain tar"),
        (b"", "not a tar, or truncated"),
        (b"junk" * 999, "not a tar, or truncated"),
        (archive[:5000], "not a tar, or truncated"),
        (b"junk" * 256 + bytes(1024), "not a tar"),
        (without("oci-layout"), "no oci-layout in it"),
        (without("index.json"), "no index.json in it"),
        (without(blob), f"no blob {blob.removeprefix('blobs/').replace('/', ':')}"),
        (but(blob, b"other"), f"damaged: {blob}: found sha256:"),
        (but("index.json", b"[" * 100_000), "index.json: not valid JSON: nested too deeply"),
        (but("index.json", b"{}"), "index.json: manifests: found nothing, expected an array"),
        (but("index.json", b" " * (5 << 20)), "index.json: found 5242880 bytes"),
        (but("index.json", twice), "index.json: 'pause:3.1' stands for several entries: sha256:"),
        (but("oci-layout", b'{"imageLayoutVersion":"2"}'), "found image layout version '2'"),
        (packed(*files.items(), ("./index.json", files["index.json"])), "two files are called 'index.json'"),
        (packed(*files.items(), ("blobs/x", b""), kind=tarfile.SYMTYPE), "'blobs/x' is neither a file nor a folder"),
        (packed(*files.items(), ("blobs/x", b""), kind=tarfile.LNKTYPE), "'blobs/x' is neither a file nor a folder"),
        (archive[:512] + b"junk" * 128 + archive[512:], "not a tar archive"),
    ):
        message = refused(data, tmp_path)
        assert str(tmp_path / "in.tar") in message
        assert words in message


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("/dev/zero")):
        with pytest.raises(BuildError, match="no such file"):
            asyncio.run(Archive(path).digest(Repository("", "pause"), "3.1"))


def test_a_large_blob_is_a_file_and_verified(tmp_path: Path) -> None:
    layer = Blob.of(OCI.layer, random.Random(0).randbytes(2 * SMALL))
    image = Image(Platform("linux", "amd64"), Blob.of(OCI.manifest, b"{}"), Blob.of(OCI.config, b"{}"), (layer,))
    file, spool, where = tmp_path / "in.tar", tmp_path / "spool", Repository("", "pause")
    data = write_bytes([Entry(image, "pause:3.1", "pause:3.1")], 0)

    file.write_bytes(data)
    read = asyncio.run(Archive(file).blob(where, layer.descriptor(), spool))
    assert read.source == next(spool.iterdir())
    assert (read, read.data) == (layer, layer.data)

    file.write_bytes(data.replace(layer.data, layer.data[::-1]))
    with pytest.raises(PublishError, match=r"damaged: blobs/sha256/.*: found sha256:"):
        asyncio.run(Archive(file).blob(where, layer.descriptor(), tmp_path / "other"))
    assert list((tmp_path / "other").iterdir()) == []
    file.write_bytes(data)
    with pytest.raises(BuildError, match=f"{re.escape(str(file))}: found something that is not a folder"):
        asyncio.run(Archive(file).blob(where, layer.descriptor(), file))
