"""`check` and `copy` of layouts and archives that others wrote: names of entries, what index and layers hold."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest

from build.errors import ImageError
from tests.support.checkout import Checkout, Run
from tests.support.components import need
from tests.support.reading import skopeo
from tests.support.strangers import GZIP, PLAIN, Json, Shelf, elf, proved, tape

Released = tuple[Checkout, Run]
APP = tape({"app": elf("amd64")})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


def index(shelf: Shelf, *entries: Json, **more: object) -> None:
    (shelf.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (shelf.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(entries)} | more))


def called(descriptor: Json, name: str) -> Json:
    return {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}


def packed(shelf: Shelf, file: Path) -> str:
    with tarfile.open(file, "w") as archive:
        archive.add(shelf.folder, ".")
    return f"oci-archive:{file}"


@pytest.mark.parametrize("annotations", [{}, {"annotations": None}])
def test_the_only_entry_needs_no_name(shelf: Shelf, released: Released, tmp_path: Path, annotations: Json) -> None:
    image = shelf.image()
    index(shelf, {**image, **annotations})
    for place in (f"oci:{shelf.folder}", packed(shelf, tmp_path / "image.tar")):
        assert released[0]("check", place).stdout == f"{place}@{image['digest']}\n"


def test_skopeo_agrees_on_the_only_entry(shelf: Shelf, released: Released, tmp_path: Path) -> None:
    image = shelf.image()
    index(shelf, image)
    skopeo("copy", f"oci:{shelf.folder}", f"oci-archive:{tmp_path}/image.tar")
    assert released[0]("check", f"oci-archive:{tmp_path}/image.tar").stdout.endswith(f"@{image['digest']}\n")


def test_a_full_reference_is_found_by_its_tag(shelf: Shelf, released: Released, tmp_path: Path) -> None:
    checkout, _ = released
    image, other = shelf.image(), shelf.image("linux/arm64")
    index(shelf, called(image, "localhost:5000/team/pause:3.1"), called(other, "docker.io/library/pause:3.2"))
    archive = packed(shelf, tmp_path / "images.tar")
    for asked in (f"oci:{shelf.folder}:3.1", f"{archive}:pause:3.1", f"{archive}:localhost:5000/team/pause:3.1"):
        assert checkout("check", asked).stdout.endswith(f"@{image['digest']}\n")
    assert list(checkout("check", archive).digests.values()) == [image["digest"], other["digest"]]
    assert "not found" in checkout.refuses(1, "check", f"oci:{shelf.folder}:1")  # 3.1 only ends so


def test_a_name_for_several_entries_is_refused(shelf: Shelf, released: Released) -> None:
    index(shelf, called(shelf.image(), "a/pause:1"), called(shelf.image("linux/arm64"), "b/pause:1"))
    assert "'1' stands for several entries: sha256:" in released[0].refuses(1, "check", f"oci:{shelf.folder}:1")


def test_nothing_is_found_in_an_empty_index(shelf: Shelf, released: Released, tmp_path: Path) -> None:
    shelf.image()
    index(shelf, manifests=None, annotations=None)
    for place in (f"oci:{shelf.folder}", f"oci:{shelf.folder}:1", packed(shelf, tmp_path / "empty.tar")):
        assert "not found" in released[0].refuses(1, "check", place)


def test_a_push_goes_into_a_layout_with_null(checkout: Checkout) -> None:
    folder = checkout.root / "dist/pause-amd64"
    folder.mkdir(parents=True)
    theirs = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 1, "annotations": None}
    for entries in (None, [theirs]):
        (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        checkout("push")
        checkout("check", "oci:dist/pause-amd64:3.1")


def test_a_release_is_copied_from_layouts_without_names(released: Released, tmp_path: Path) -> None:
    source, run = released
    checkout = Checkout.clone(source.root, tmp_path / "checkout")
    checkout("all-push", "--registry", "oci:from")
    for path in (checkout.root / "from").glob("*/index.json"):
        document = json.loads(path.read_bytes())
        for entry in document["manifests"]:
            del entry["annotations"]
        path.write_text(json.dumps(document))
    copied = checkout("copy", "oci:from", "oci:to")
    assert list(copied.digests.values()) == list(run.digests.values())


def test_an_archive_of_a_release_is_checked_whole(released: Released, tmp_path: Path) -> None:
    source, run = released
    checkout = Checkout.clone(source.root, tmp_path / "checkout")
    checkout("all-push")
    checkout("copy", "oci:dist", "oci-archive:release.tar")
    proof = checkout("check", "oci-archive:release.tar").stdout
    for name, digest in run.digests.items():
        assert f"{name.replace('oci:dist/', 'oci-archive:release.tar:')}@{digest}\n" in proof
    checkout("check", "oci-archive:release.tar:pause-arm:3.1")
    assert "not found" in checkout.refuses(1, "check", "oci-archive:release.tar:pause-arm:3.2")
    assert "no such file" in checkout.refuses(1, "check", "oci-archive:none.tar")


@pytest.mark.parametrize("changes", [{"size": 9}, {"mediaType": "application/vnd.oci.image.index.v1+json"}])
def test_an_entry_describes_its_manifest(shelf: Shelf, released: Released, tmp_path: Path, changes: Json) -> None:
    index(shelf, {**shelf.image(), **changes})
    for place in (f"oci:{shelf.folder}", packed(shelf, tmp_path / "image.tar")):
        assert "expected" in released[0].refuses(1, "check", place)


def layered(shelf: Shelf, data: bytes) -> str:
    """An image whose layer is `data`, and whose diff_id is that of APP."""
    manifest = shelf.read(shelf.image(tapes=[APP]))
    return shelf.tag("1", shelf.manifest(manifest["config"], [shelf.put(data, GZIP)]))


def test_gzip_members_are_one_stream(shelf: Shelf) -> None:
    data = gzip.compress(APP[:700]) + gzip.compress(b"") + gzip.compress(APP[700:])
    assert proved(layered(shelf, data)) == (["linux/amd64"], [])


@pytest.mark.parametrize(
    "behind",
    [bytes(512), b"junk", b"\x1f\x8b", gzip.compress(b"x")[:-1]],
    ids=["zeros", "junk", "the beginning of a member", "a member without its end"],
)
def test_what_is_behind_gzip_members_is_a_fault(shelf: Shelf, behind: bytes) -> None:
    with pytest.raises(ImageError, match="not gzip"):
        proved(layered(shelf, gzip.compress(APP) + behind))


def test_a_small_layer_that_unpacks_to_much_is_a_fault(shelf: Shelf) -> None:
    packer = zlib.compressobj(9, wbits=31)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    assert len(data) < 1 << 20
    with pytest.raises(ImageError, match="more than 268435456 bytes when unpacked"):
        proved(layered(shelf, data))


def test_long_links_do_not_fill_the_memory(shelf: Shelf) -> None:
    link = tarfile.TarInfo("a")
    link.type, link.linkname = tarfile.SYMTYPE, "x" * 4000
    packer = zlib.compressobj(9, wbits=31)
    data = packer.compress(link.tobuf(tarfile.GNU_FORMAT) * 17_000) + packer.flush()
    with pytest.raises(ImageError, match="more than 67108864 characters in the paths"):
        proved(layered(shelf, data))


def test_a_blob_is_read_to_its_size_only(shelf: Shelf) -> None:
    """A file that says it is a terabyte, a pipe that nobody writes to, and a device without an end."""
    image = shelf.image(packed=PLAIN)
    layer = shelf.read(image)["layers"][0]
    path, asked = shelf.path(layer["digest"]), shelf.tag("1", image)
    os.truncate(path, 1 << 40)
    with pytest.raises(ImageError, match=f"found {1 << 40} bytes, expected {layer['size']}"):
        proved(asked)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ImageError, match="not a regular file"):
        proved(asked)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="not a regular file"):
        proved(asked)


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_layers_as_gnu_tar_writes_them_are_no_fault(shelf: Shelf, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "app").write_bytes(elf("amd64"))
    (folder / "app").chmod(0o755)
    if form not in ("v7", "ustar"):
        (folder / ("n" * 120)).write_bytes(b"")
        (folder / "link").symlink_to("l" * 150)
    command = [need("tar", "tar"), f"--format={form}", "-cf", "-", "-C", str(folder), "."]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    assert proved(shelf.tag("1", shelf.image(tapes=[archive])))[0] == ["linux/amd64"]
