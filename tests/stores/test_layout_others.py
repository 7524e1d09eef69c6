"""A layout that others use: `clean` leaves what they may need. And one that readers would not take for a layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from build.oci.descriptor import digest_of
from build.oci.image import index_of
from build.oci.media_types import OCI
from build.report import Event
from build.stores.layout.clean import clean_layout
from build.stores.layout.layout import Layout
from tests.stores.test_layout import AMD64, HERE, ROOT, blob_path, image, put
from tests.support.checkout import Checkout, ended
from tests.support.pidns import until
from tests.support.reading import inspect, skopeo

Json = dict[str, Any]
NAME = "org.opencontainers.image.ref.name"
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
OURS = {each.digest for each in (*AMD64.blobs, AMD64.manifest)}
LAYER, CONFIG = (each.descriptor().fields() for each in AMD64.blobs)
IMAGE = AMD64.manifest.descriptor().fields()


@dataclass
class Shared:
    """A layout with a tag of ours, 3.1, into which others put things."""

    folder: Path
    notes: list[str] = field(default_factory=list)

    def store(self, value: object) -> Json:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        blob_path(self.folder, digest_of(data)).write_bytes(data)
        return {"mediaType": OCI.manifest, "digest": digest_of(data), "size": len(data)}

    def add(self, value: object, media_type: str = OCI.manifest, **changes: object) -> str:
        """Have index.json name it; its digest."""
        index = self.index
        entry = {**self.store(value), "mediaType": media_type, "annotations": {NAME: "theirs"}, **changes}
        index["manifests"].append(entry)
        (self.folder / "index.json").write_text(json.dumps(index))
        return str(entry["digest"])

    @property
    def index(self) -> Json:
        found: Json = json.loads((self.folder / "index.json").read_bytes())
        return found

    @property
    def blobs(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self.folder / "blobs/sha256").glob("*")}

    @property
    def tags(self) -> list[str]:
        return [entry.get("annotations", {}).get(NAME) for entry in self.index["manifests"]]

    def clean(self) -> list[Path]:
        def note(event: str | Event) -> None:
            self.notes.append(str(event))

        return clean_layout(self.folder, dry=False, report=note)


@pytest.fixture
def sink(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def shared(sink: Layout) -> Shared:
    put(sink, "3.1", AMD64)
    return Shared(sink.base / HERE.name)


# --- clean ---

MANIFEST: Json = {"schemaVersion": 2, "mediaType": OCI.manifest}
NEEDS: dict[str, tuple[Json, str, set[str]]] = {
    "an artifact": (
        {"mediaType": ARTIFACT, "artifactType": "text/x", "blobs": [LAYER]},
        ARTIFACT,
        {str(LAYER["digest"])},
    ),
    "schema 1": (
        {"schemaVersion": 1, "fsLayers": [{"blobSum": LAYER["digest"]}], "signatures": []},
        SCHEMA1,
        {str(LAYER["digest"])},
    ),
    "a subject": ({**MANIFEST, "config": CONFIG, "layers": [], "subject": IMAGE}, OCI.manifest, OURS),
    "an artifact with a subject": ({"mediaType": ARTIFACT, "blobs": [], "subject": IMAGE}, ARTIFACT, OURS),
    "a kind to come": ({"mediaType": "x/y", "parts": {"a": [CONFIG["digest"]]}}, "x/y", {str(CONFIG["digest"])}),
    "an index": ({"schemaVersion": 2, "mediaType": OCI.index, "manifests": [IMAGE]}, OCI.index, OURS),
}


@pytest.mark.parametrize("kind", NEEDS)
def test_clean_leaves_what_a_manifest_of_any_kind_needs(shared: Shared, kind: str) -> None:
    value, media_type, needed = NEEDS[kind]
    theirs = shared.add(value, media_type)
    assert shared.clean() == [shared.folder]
    assert shared.blobs == needed | {theirs}
    assert shared.tags == ["theirs"]
    assert not (shared.folder / ".lock").exists()
    assert shared.notes == []
    assert shared.clean() == []


def test_clean_leaves_an_untagged_referrer_and_its_subject(shared: Shared) -> None:
    theirs = str(shared.store({**MANIFEST, "config": CONFIG, "layers": [], "subject": IMAGE})["digest"])
    shared.clean()
    assert shared.blobs == OURS | {theirs}
    assert shared.tags == []


def missing(shared: Shared) -> str:
    theirs = shared.add({**MANIFEST, "config": CONFIG, "layers": [LAYER]})
    blob_path(shared.folder, theirs).unlink()
    return theirs


def damaged(shared: Shared) -> str:
    theirs = shared.add({**MANIFEST, "config": CONFIG, "layers": [LAYER]})
    blob_path(shared.folder, theirs).write_bytes(b"{}")
    return theirs


def huge(shared: Shared) -> str:
    return shared.add(json.dumps({"layers": [LAYER]}).encode() + b" " * (4 << 20))


def not_json(shared: Shared) -> str:
    return shared.add(b"\x1f\x8b")


def two_members(shared: Shared) -> str:
    return shared.add(json.dumps({"layers": [LAYER]}).encode()[:-1] + b', "layers": []}')


def another_algorithm(shared: Shared) -> str:
    theirs = "sha512:" + "0" * 128
    shared.add({}, digest=theirs)
    return theirs


def beneath(shared: Shared) -> str:
    theirs = "sha256:" + "7" * 64
    shared.add({"schemaVersion": 2, "manifests": [{**IMAGE, "digest": theirs}]}, OCI.index)
    return theirs


@pytest.mark.parametrize("fault", [missing, damaged, huge, not_json, two_members, another_algorithm, beneath])
def test_clean_leaves_all_blobs_if_a_manifest_cant_be_read(shared: Shared, fault: Callable[[Shared], str]) -> None:
    theirs = fault(shared)
    before = shared.blobs
    assert shared.clean() == [shared.folder]
    assert shared.blobs == before
    assert shared.tags == ["theirs"]
    [note] = shared.notes
    assert note.startswith(f"note: oci:{shared.folder}: left: the blobs, because {theirs} is not readable here")


def test_a_subject_need_not_be_there(shared: Shared) -> None:
    absent = {**IMAGE, "digest": "sha256:" + "7" * 64}
    theirs = shared.add({**MANIFEST, "config": CONFIG, "layers": [], "subject": absent})
    shared.clean()
    assert shared.blobs == {theirs, str(CONFIG["digest"])}
    assert shared.notes == []


def test_clean_removes_what_tags_referred_to_before(shared: Shared, sink: Layout) -> None:
    put(sink, "3.1", image("linux/amd64", "new"))
    put(sink, "3.1", index_of([image("linux/amd64", "newer")]))
    theirs = shared.add({})
    shared.clean()
    assert shared.blobs == {theirs}
    assert "annotations" not in shared.index


def test_clean_leaves_what_nobody_has_tagged_yet(shared: Shared) -> None:
    others = {shared.add({}), str(shared.store(b"half of a copy")["digest"])}
    shared.clean()
    assert shared.blobs == others
    assert shared.notes == [f"note: oci:{shared.folder}: left: blobs that no tag leads to: 1"]


def test_clean_leaves_blobs_in_a_linked_folder(shared: Shared, tmp_path: Path) -> None:
    (shared.folder / "blobs").rename(tmp_path / "pool")
    (shared.folder / "blobs").symlink_to(tmp_path / "pool")
    before = shared.blobs
    assert shared.clean() == [shared.folder]
    assert shared.blobs == before
    assert "is a link" in shared.notes[0]
    assert {path.name for path in shared.folder.iterdir()} == {"blobs"}


CLEAN = """
import sys
from pathlib import Path
from build.stores.layout.clean import clean_layout
clean_layout(Path(sys.argv[1]), dry=False)
"""


def opened(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether a process has the file open just now."""
    try:
        return any(os.readlink(each.path) == str(path) for each in os.scandir(f"/proc/{process.pid}/fd"))
    except OSError:  # a file that was closed meanwhile
        return False


def test_clean_waits_for_the_lock(shared: Shared) -> None:
    lock = FileLock(shared.folder / ".lock")
    with lock:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", CLEAN, str(shared.folder)]
        with subprocess.Popen(command, env=environment, text=True) as process:
            until(
                "it waits, or is done",
                lambda: process.poll() is not None or any(opened(process, shared.folder / ".lock") for _ in range(999)),
                patience=60,  # the lock is open for a moment only, each time that it is tried
            )
            theirs = shared.add({"layers": [LAYER]})
            lock.release()
            assert ended(process).code == 0
    assert shared.tags == ["theirs"]
    assert shared.blobs == {theirs, str(LAYER["digest"])}


# --- a layout that readers would not take for one ---


def no_frame(folder: Path) -> None:
    (folder / "oci-layout").unlink()


def another_version(folder: Path) -> None:
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')


def no_object(folder: Path) -> None:
    (folder / "oci-layout").write_text("[]")


def edited(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_bytes())
        (folder / "index.json").write_text(json.dumps(index | changes))

    return edit


def entered(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_bytes())
        index["manifests"][0] |= changes
        (folder / "index.json").write_text(json.dumps(index))

    return edit


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "no oci-layout": (no_frame, "oci-layout: No such file"),
    "oci-layout is no object": (no_object, "oci-layout: found [], expected an object"),
    "version of oci-layout": (another_version, "oci-layout: imageLayoutVersion: found '2.0.0', expected '1.0.0'"),
    "schemaVersion": (edited(schemaVersion=1), "index.json: schemaVersion: found 1, expected 2"),
    "schemaVersion as text": (edited(schemaVersion="2"), "index.json: schemaVersion: found '2', expected 2"),
    "media type of the index": (edited(mediaType=OCI.manifest), f"expected '{OCI.index}'"),
    "size of an entry": (entered(size=7), "size: found 7, expected "),
    "no size of an entry": (entered(size=None), "size: found nothing, expected "),
    "media type of an entry": (entered(mediaType=OCI.index), f"mediaType: found '{OCI.index}', expected "),
    "no media type of an entry": (entered(mediaType=None), "mediaType: found nothing, expected "),
}


@pytest.mark.parametrize("fault", WRONG)
def test_check_tells_and_a_push_mends(checkout: Checkout, fault: str) -> None:
    damage, words = WRONG[fault]
    run = checkout("push")
    folder = checkout.root / "dist/pause-amd64"
    sound = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    damage(folder)
    message = checkout.refuses(1, "check", "oci:dist/pause-amd64:3.1")
    assert "1 fault in" in message
    assert words in message
    assert "push there again" in message
    assert words in checkout.refuses(1, "push-manifest", "--arch", "amd64")
    again = checkout("push")
    assert again.stdout == run.stdout
    assert "oci:dist/pause-amd64:3.1: pushed" in again.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == sound
    checkout("check", "oci:dist/pause-amd64:3.1")
    assert "already published" in checkout("push").stderr


def test_skopeo_keeps_what_clean_needs_to_know(checkout: Checkout) -> None:
    checkout("push")
    checkout("push", REV="new")
    skopeo("copy", "oci:dist/pause-amd64:3.1", "oci:dist/pause-amd64:mine", cwd=checkout.root)
    digest, _ = inspect("oci:dist/pause-amd64:mine", "--raw", cwd=checkout.root)
    run = checkout("clean")
    assert "left" not in run.stderr
    assert inspect("oci:dist/pause-amd64:mine", "--raw", cwd=checkout.root)[0] == digest
    assert len(list((checkout.root / "dist/pause-amd64/blobs/sha256").iterdir())) == 3
