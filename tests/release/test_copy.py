"""`copy`: a release is copied between registries, layouts and archives without changing a byte, or not at all."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.support.checkout import RELEASE, Checkout, Run, ended, results
from tests.support.reading import complete, digest, inspect, layout_reader, skopeo
from tests.support.registries import Recorder, registry_reader

Released = tuple[Checkout, Run]
NAMES = [f"{name}:3.1" for name in ("pause", *(f"pause-{arch}" for arch in RELEASE))]


@pytest.fixture
def layouts(released: Released) -> str:
    """Where a release is: the folder of its layouts, as REGISTRY is spelled."""
    return f"oci:{released[0].root}/dist"


@pytest.fixture
def digests(released: Released) -> list[str]:
    """The digests of that release, in the order of NAMES."""
    return list(released[1].digests.values())


def insecure_copy(*words: str) -> None:
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", *words)


def test_every_copy_has_the_same_digests(
    layouts: str, digests: list[str], checkout: Checkout, recorder: Recorder
) -> None:
    hops = [layouts, f"{recorder.host}/a", "oci:there", "oci-archive:out/release.tar", f"{recorder.host}/b/c"]
    for source, target in pairwise(hops):
        run = checkout("copy", source, target)
        between = ":" if target.startswith("oci-archive:") else "/"
        assert list(run.digests) == [f"{target}{between}{name}" for name in NAMES]
        assert list(run.digests.values()) == digests
        for name, published in run.digests.items():
            reference = name if name.startswith("oci") else f"docker://{name}"
            assert inspect(reference, "--raw", cwd=checkout.root)[0] == published
    for repository in ("pause", *(f"pause-{arch}" for arch in RELEASE)):
        published = digests[NAMES.index(f"{repository}:3.1")]
        complete(registry_reader(recorder.host, f"b/c/{repository}"), published)
        complete(layout_reader(checkout.root / "there" / repository), published)


def test_skopeo_copies_list_and_images_from_an_archive(layouts: str, digests: list[str], checkout: Checkout) -> None:
    checkout("copy", layouts, "oci-archive:release.tar")
    for name, published in zip(NAMES, digests, strict=True):
        folder = name.partition(":")[0]
        skopeo("copy", "--all", f"oci-archive:release.tar:{name}", f"oci:{folder}:x", cwd=checkout.root)
        assert inspect(f"oci:{folder}:x", "--raw", cwd=checkout.root)[0] == published
        complete(layout_reader(checkout.root / folder), published)
    listed = json.loads(skopeo("list-tags", "docker-archive:release.tar", cwd=checkout.root))
    assert listed["Tags"] == [f"docker.io/library/{name}" for name in NAMES[1:]]


def test_an_archive_does_not_depend_on_its_source(layouts: str, checkout: Checkout, recorder: Recorder) -> None:
    checkout("copy", layouts, f"{recorder.host}/deep/down")
    checkout("copy", layouts, "oci-archive:1.tar")
    checkout("copy", f"{recorder.host}/deep/down", "oci-archive:2.tar")
    checkout("copy", "oci-archive:2.tar", f"oci-archive:{checkout.side}/3.tar")
    archives = [checkout.root / "1.tar", checkout.root / "2.tar", checkout.side / "3.tar"]
    assert len({path.read_bytes() for path in archives}) == 1
    with tarfile.open(archives[0]) as tape:
        assert {member.mtime for member in tape} == {981147906}  # the commit's time, which the configs have
        assert {(member.uid, member.gid, member.uname) for member in tape} == {(0, 0, "")}


def test_archives_of_other_tools_are_read(layouts: str, digests: list[str], checkout: Checkout) -> None:
    checkout("copy", layouts, "oci-archive:release.tar")
    unpacked = checkout.side / "unpacked"
    with tarfile.open(checkout.root / "release.tar") as tape:
        tape.extractall(unpacked, filter="data")
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(checkout.root / f"{form}.tar", "w", format=form) as tape:
            tape.add(unpacked, ".")
        assert list(checkout("copy", f"oci-archive:{form}.tar", f"oci:{form}").digests.values()) == digests


def test_nothing_to_do_writes_nothing(layouts: str, checkout: Checkout, recorder: Recorder) -> None:
    for target in (recorder.host, "oci:there", "oci-archive:release.tar"):
        first = checkout("copy", layouts, target)
        if target.startswith("oci-archive:"):
            (checkout.root / "release.tar").chmod(0o777)  # as all files are on many a memory stick
        before = checkout.snapshot()
        recorder.forget()
        again = checkout("copy", layouts, target)
        assert (again.stdout, checkout.snapshot()) == (first.stdout, before)
        assert {each.method for each in recorder.exchanges} <= {"HEAD"}
        assert ("unchanged" if target.startswith("oci-archive:") else "already published") in again.stderr


def test_dry_prints_the_digests_and_changes_nothing(layouts: str, checkout: Checkout, recorder: Recorder) -> None:
    for target in (recorder.host, "oci:there", "oci-archive:release.tar"):
        before = checkout.snapshot()
        plan = checkout("--dry", "copy", layouts, target)
        assert checkout.snapshot() == before
        assert {line.split()[0] for line in plan.stdout.splitlines()} == {"pushed"}
        assert checkout("copy", layouts, target).digests == plan.digests
    assert "HEAD" in {each.method for each in recorder.exchanges}


def test_docker_media_types_are_only_copied_between_registries(checkout: Checkout, recorder: Recorder) -> None:
    made = checkout("all-push", "--format", "docker", REGISTRY=f"{recorder.host}/a")
    run = checkout("copy", f"{recorder.host}/a", f"{recorder.host}/b")
    assert list(run.digests.values()) == list(made.digests.values())
    for name, published in run.digests.items():
        found, manifest = inspect(f"docker://{name}", "--raw")
        assert (found, manifest["mediaType"].startswith("application/vnd.docker.")) == (published, True)
    before = checkout.snapshot()
    for target in ("oci:there", "oci-archive:release.tar"):
        message = checkout.refuses(1, "copy", f"{recorder.host}/a", target)
        for word in (f"{recorder.host}/a/pause:3.1", "found format docker", "expected oci", "--format oci"):
            assert word in message
    assert checkout.snapshot() == before


def test_some_arches_of_another_tag(checkout: Checkout) -> None:
    arches = ("--arch", "arm", "--arch", "riscv64")
    made = checkout("all-push", *arches, TAG="3.9")
    run = checkout("copy", "oci:dist", "oci-archive:release.tar", *arches, "--tag", "3.9")
    assert list(run.digests) == [f"oci-archive:release.tar:pause{arch}:3.9" for arch in ("", "-arm", "-riscv64")]
    assert list(run.digests.values()) == list(made.digests.values())
    message = checkout.refuses(1, "copy", "oci:dist", "oci:there", "--arch", "arm", TAG="3.9")
    for word in ("oci:dist/pause:3.1".replace("3.1", "3.9"), f"found {made.digests['oci:dist/pause-riscv64:3.9']}"):
        assert word in message
    assert not (checkout.root / "there").exists()


OTHER = """  other:
    tag: "1.0"
    repository: "{registry}/other"
    arch-reference: "{registry}/other-{arch}:{tag}"
    dockerfile: Dockerfile.j2
    sources: [pause.c]
    user: "1"
    entrypoint: [/other]

defaults:
"""


def test_images_that_this_table_does_not_have_are_copied(checkout: Checkout) -> None:
    table = (checkout.root / "arches.yaml").read_text()
    checkout.edit("arches.yaml", "defaults:\n", OTHER)
    two = ("--arch", "amd64", "--arch", "arm")
    made = [name.partition("/")[2] for name in checkout("all-push", *two, REGISTRY="oci:part").digests]
    assert "other-arm:1.0" in made
    checkout("copy", "oci:part", "oci-archive:both.tar", *two)
    checkout("all-push", "--image", "other", REGISTRY="oci:whole")
    (checkout.root / "arches.yaml").write_text(table)
    # An archive: every release, each with the arches that it has. A layout: the table's images, and what it lacks.
    for target in ("oci:there", "oci-archive:there.tar"):
        run = checkout("copy", "oci-archive:both.tar", target)
        assert [name.removeprefix(target)[1:] for name in run.digests] == made
    assert (checkout.root / "there.tar").read_bytes() == (checkout.root / "both.tar").read_bytes()
    checkout("all-push", REGISTRY="oci:whole")
    names = list(checkout("copy", "oci:whole", "oci:third").digests)
    assert {f"oci:third/{name}" for name in (*NAMES, "other:1.0", "other-s390x:1.0")} <= set(names)
    assert len(list(checkout("copy", "oci:whole", "oci:fourth", "--image", "pause").digests)) == len(NAMES)


def test_what_no_list_of_an_archive_has_is_an_error(layouts: str, checkout: Checkout) -> None:
    checkout("copy", layouts, "oci-archive:release.tar")
    checkout("push", "--arch", "arm", "--tag", "stray")
    unpacked = checkout.root / "unpacked"
    with tarfile.open(checkout.root / "release.tar") as tape:
        tape.extractall(unpacked, filter="data")
    skopeo("copy", "oci:dist/pause-arm:stray", "oci:unpacked:stray-arm:2", cwd=checkout.root)
    with tarfile.open(checkout.root / "more.tar", "w") as tape:
        tape.add(unpacked, ".")
    message = checkout.refuses(1, "copy", "oci-archive:more.tar", "oci:there")
    assert "oci-archive:more.tar: found stray-arm:2, expected only manifest lists and their images" in message
    assert "--image or --tag" in message
    checkout("copy", "oci-archive:more.tar", "oci:there", "--image", "pause")


def test_a_part_of_a_list_is_refused_with_a_way_out(layouts: str, checkout: Checkout) -> None:
    message = checkout.refuses(1, "copy", layouts, "oci:there", "--arch", "arm")
    for word in ("a list is copied whole", "select all of its arches", "skopeo", "invoke push-manifest --arch"):
        assert word in message
    assert not (checkout.root / "there").exists()


def test_folders_outside_the_checkout_are_not_made_unasked(layouts: str, checkout: Checkout) -> None:
    missing = checkout.side / "no"
    for target in (f"oci:{missing}/there", f"oci-archive:{missing}/release.tar", "oci:../no/there"):
        assert "create it first: mkdir -p /" in checkout.refuses(2, "copy", layouts, target)
    assert not missing.exists()
    checkout("copy", layouts, f"oci:{missing}")
    checkout("copy", layouts, "oci:new/folders/here")


def test_a_tag_moves_only_with_overwrite(
    layouts: str, digests: list[str], checkout: Checkout, recorder: Recorder
) -> None:
    checkout("push", "--arch", "arm", REGISTRY=recorder.host, REV="another")
    recorder.forget()
    message = checkout.refuses(1, "copy", layouts, recorder.host)
    for word in (f"{recorder.host}/pause-arm:3.1", f"expected {digests[2]}", "REV was another", "--overwrite"):
        assert word in message
    assert {each.method for each in recorder.exchanges} == {"HEAD", "GET"}
    assert list(checkout("copy", layouts, recorder.host, "--overwrite").digests.values()) == digests


def test_a_file_is_replaced_only_with_overwrite(layouts: str, digests: list[str], checkout: Checkout) -> None:
    (checkout.root / "mine").write_text("mine")
    (checkout.root / "folder").mkdir()
    message = checkout.refuses(1, "copy", layouts, "oci-archive:mine")
    for word in (str(checkout.root / "mine"), "not this copy", "--overwrite"):
        assert word in message
    assert (checkout.root / "mine").read_text() == "mine"
    assert list(checkout("copy", layouts, "oci-archive:mine", "--overwrite").digests.values()) == digests
    for never in ("folder", "/dev/null"):
        assert "is not a file" in checkout.refuses(1, "copy", layouts, f"oci-archive:{never}", "--overwrite")


def lacks_an_arch(host: str) -> None:
    """Nothing is under the tag."""
    for name in set(NAMES) - {"pause-arm64:3.1"}:
        insecure_copy("--all", f"docker://{host}/all/{name}", f"docker://{host}/{name}")


def lacks_the_list(host: str) -> None:
    for name in NAMES[1:]:
        insecure_copy(f"docker://{host}/all/{name}", f"docker://{host}/{name}")


def has_an_image_for_a_list(host: str) -> None:
    lacks_the_list(host)
    insecure_copy(f"docker://{host}/all/{NAMES[1]}", f"docker://{host}/pause:3.1")


def has_another_image_than_the_list(host: str) -> None:
    for name in NAMES:
        there = name.replace("arm64:3.1", "arm64:other")
        insecure_copy("--all", f"docker://{host}/all/{there}", f"docker://{host}/{name}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lacks_an_arch, ["arm64: ", "/pause-arm64:3.1: no such image"]),
        (lacks_the_list, ["/pause:3.1: no such manifest list", "invoke push-manifest"]),
        (has_an_image_for_a_list, ["/pause:3.1: found application/vnd.oci.image.manifest.v1+json", "manifest list"]),
        (has_another_image_than_the_list, ["/pause:3.1: the manifest list has other images", "found sha256:"]),
    ],
)
def test_an_incomplete_release_is_not_copied(
    layouts: str, checkout: Checkout, recorder: Recorder, fault: Callable[[str], None], words: list[str]
) -> None:
    checkout("copy", layouts, f"{recorder.host}/all")
    checkout("push", "--arch", "arm64", "--tag", "other", REGISTRY=f"{recorder.host}/all")
    fault(recorder.host)
    before = checkout.snapshot()
    recorder.forget()
    for target in (f"{recorder.host}/new", "oci:there", "oci-archive:release.tar"):
        message = checkout.refuses(1, "copy", recorder.host, target)
        for word in words:
            assert word in message
    assert checkout.snapshot() == before
    assert {each.method for each in recorder.exchanges} <= {"HEAD", "GET"}


def test_a_damaged_blob_is_reported(layouts: str, checkout: Checkout) -> None:
    checkout("copy", layouts, "oci:there")
    _, manifest = inspect("oci:there/pause-arm:3.1", "--raw", cwd=checkout.root)
    layer = checkout.root / "there/pause-arm/blobs" / manifest["layers"][0]["digest"].replace(":", "/")
    layer.write_bytes(layer.read_bytes()[:-1])
    message = checkout.refuses(1, "copy", "oci:there", "oci-archive:release.tar")
    for word in ("arm: ", str(layer), "damaged"):
        assert word in message
    assert not (checkout.root / "release.tar").exists()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_copy_leaves_no_archive(
    layouts: str, digests: list[str], checkout: Checkout, recorder: Recorder, signal_: signal.Signals
) -> None:
    checkout("copy", layouts, recorder.host)
    recorder.forget()
    process = checkout.start("copy", recorder.host, "oci-archive:release.tar")
    recorder.on_request = lambda number: os.killpg(process.pid, signal_) if number == 8 else None
    run = ended(process)
    recorder.on_request = lambda _: None
    assert run.code != 0
    assert "Traceback" not in run.stderr
    assert list(checkout.root.glob("*release.tar*")) == []
    again = checkout("copy", recorder.host, "oci-archive:release.tar")
    assert list(again.digests.values()) == digests


def test_clean_keeps_archives(layouts: str, checkout: Checkout) -> None:
    for file in ("release.tar", "bin/release.tar", "dist/release.tar"):
        checkout("copy", layouts, f"oci-archive:{file}")
    before = checkout.snapshot()
    checkout("all-push")
    checkout("clean")
    assert checkout.snapshot() == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["oci:dist", "oci-archive:"], "expected oci-archive:FILE"),
        (
            ["oci-archive:a:b.tar", "oci:dist"],
            "copy REGISTRY REGISTRY, each HOST[:PORT][/PATH], oci:FOLDER or oci-archive:FILE",
        ),
        (["oci:dist", "oci-archive:folder/"], "expected oci-archive:FILE"),
        (["release.tar", "oci:dist"], "oci-archive:release.tar"),
        (["oci:dist", "out/release.tar"], "oci-archive:out/release.tar"),
        (["oci:dist", "oci:/"], "expected oci:FOLDER"),
        (["oci:dist", "oci:there", "--arch", "arm63"], "did you mean 'arm64'?"),
    ],
)
def test_usage_errors(released: Released, words: list[str], expected: str) -> None:
    assert expected in released[0].refuses(2, "copy", *words)


def test_only_copy_writes_archives(released: Released) -> None:
    assert "invoke copy" in released[0].refuses(2, "all-push", REGISTRY="oci-archive:release.tar")


def test_json_has_the_same_digests(layouts: str, digests: list[str], checkout: Checkout) -> None:
    found = results(checkout("copy", layouts, "oci-archive:release.tar", "--json"))
    assert [each["digest"] for each in found] == digests
    assert digest(skopeo("inspect", "--raw", f"oci-archive:{checkout.root}/release.tar:{NAMES[0]}")) == digests[0]
