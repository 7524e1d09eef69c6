"""Several images in one run: each is built and published concurrently and independently of the others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from build.config.parse import read_settings
from build.errors import UsageError
from tests.support.checkout import RELEASE, SOURCE, Checkout, results
from tests.support.daemons import Docker
from tests.support.reading import complete, inspect, layout_reader
from tests.support.registries import Recorder, fetch, registry_reader

ROW = """
  sleep:
    tag: "1.0"
    repository: "{registry}/tools/sleep"
    arch-reference: "{registry}/tools/sleep-{arch}:{tag}"
    dockerfile: Dockerfile.sleep.j2
    sources: [sleep.c]
    companions:
      waker: [waker.c]
    cflags: [-O2, -static, -DTIMES=2]
    user: "65534"
    entrypoint: [/sleep]
"""
# Without TIMES, a flag of its own row, it does not compile.
PROGRAM = "int main(void) { return TIMES; }\n"
DOCKERFILE = """FROM scratch
COPY {{ binary }} /{{ image.name }}
USER {{ image.user }}
ENTRYPOINT {{ image.entrypoint | tojson }}
"""
EACH = len(RELEASE) + 1


@pytest.fixture
def two(checkout: Checkout) -> Checkout:
    """A checkout with a second image, a few lines away."""
    checkout.edit("arches.yaml", "\ndefaults:\n", f"{ROW}\ndefaults:\n")
    (checkout.root / "sleep.c").write_text(PROGRAM)
    (checkout.root / "waker.c").write_text("int main(void) { return 0; }\n")
    (checkout.root / "Dockerfile.sleep.j2").write_text(DOCKERFILE)
    checkout.commit("a second image")
    return checkout


def names(place: str) -> list[str]:
    """What one run publishes, in its order."""
    repositories = [("pause", "3.1"), ("tools/sleep", "1.0")]
    ends = ("", *(f"-{arch}" for arch in RELEASE))
    return [f"{place}/{name}{end}:{tag}" for name, tag in repositories for end in ends]


def test_one_run_publishes_both_as_two_runs_would(two: Checkout, recorder: Recorder) -> None:
    run = two("all-push", REGISTRY=recorder.host)
    assert list(run.digests) == names(recorder.host)
    both = list(run.digests.values())
    for name, published in run.digests.items():
        assert inspect(f"docker://{name}", "--raw")[0] == published
        repository = name.partition("/")[2].rpartition(":")[0]
        complete(registry_reader(recorder.host, repository), published)
    assert list(two("check", REGISTRY=recorder.host).digests.values()) == both

    for image, digests in (("pause", both[:EACH]), ("sleep", both[EACH:])):
        two.forget()
        assert list(two("all-push", "--image", image).digests.values()) == digests
    two.forget()
    layout = two("all-push")
    assert list(layout.digests) == names("oci:dist")
    assert list(layout.digests.values()) == both
    assert two("check").digests == layout.digests
    complete(layout_reader(two.root / "dist/tools/sleep"), layout.digests["oci:dist/tools/sleep:1.0"])
    assert [each["reference"] for each in results(two("all-push", "--json"))] == list(layout.digests)


def test_the_first_image_is_unchanged(two: Checkout) -> None:
    both = two("all-push", REV="same", SOURCE_DATE_EPOCH="1").digests
    two.edit("arches.yaml", f"{ROW}\ndefaults:\n", "\ndefaults:\n")
    two.forget()
    assert two("all-push", REV="same", SOURCE_DATE_EPOCH="1").digests.items() <= both.items()


def test_nothing_to_do_takes_two_requests(two: Checkout, recorder: Recorder) -> None:
    two("all-push", REGISTRY=recorder.host)
    recorder.forget()
    two("all-push", REGISTRY=recorder.host)
    asked = [f"HEAD /v2/{name.partition('/')[2].replace(':', '/manifests/')}" for name in names(recorder.host)]
    assert sorted(line for line in recorder.lines if line != "GET /v2/") == sorted(asked)


def test_no_image_waits_for_another(two: Checkout, recorder: Recorder) -> None:
    two("all-container")
    two("all-push", REGISTRY=recorder.host)
    first, second = (
        [each for each in recorder.exchanges if f"/{name}" in each.path] for name in ("v2/pause", "tools/sleep")
    )
    assert min(each.began for each in second) < max(each.ended for each in first)
    assert min(each.began for each in first) < max(each.ended for each in second)


def test_images_are_selected(two: Checkout) -> None:
    def built(*words: str, **environment: str) -> list[str]:
        return list(two("build", *words, **environment).digests)

    assert built() == ["bin/pause-amd64", "bin/sleep-amd64"]
    assert built("--image", "sleep") == ["bin/sleep-amd64"]
    assert built("--image", "sleep", "--image", "pause", "--image", "sleep") == built()
    assert built(IMAGE=" sleep  pause ") == built(IMAGE="") == built()
    assert built(IMAGE="sleep") == built("--image", "sleep", IMAGE="pause") == ["bin/sleep-amd64"]
    assert list(two("orphan").digests) == ["bin/orphan-amd64", "bin/waker-amd64"]
    assert list(two("container", "--image", "sleep").digests) == ["bin/sleep-amd64.tar"]
    assert "known: pause, sleep" in two.refuses(2, "build", "--image", "sleep", "--image", "slep")


@pytest.mark.parametrize("words", [["--tag", "2"], ["--tag", "2", "--image", "pause", "--image", "sleep"]])
def test_one_tag_is_for_one_image(two: Checkout, words: list[str]) -> None:
    for task in ("all-push", "build", "check", "push-manifest"):
        message = two.refuses(2, task, *words)
        assert "found 2 images (pause, sleep), expected one" in message
        assert "--image NAME" in message
    assert "tag '2'" in two.refuses(2, "build", TAG="2")
    assert list(two("push", "--image", "sleep", TAG="2").digests) == ["oci:dist/tools/sleep-amd64:2"]


def test_a_failure_does_not_affect_the_other_image(two: Checkout, recorder: Recorder) -> None:
    program = two.root / "pause.c"
    sound = program.read_text()
    for broken, words in ((lambda: program.write_text("int main"), "pause.c:1"), (program.unlink, "pause.c: no such")):
        broken()
        message = two.refuses(1, "all-push", REGISTRY=recorder.host, REV="same")
        assert message.startswith("1 of 2 images failed\n  pause: ")
        assert words in message
        assert fetch(recorder.host, "pause/manifests/3.1")[0] == 404
        assert fetch(recorder.host, "tools/sleep/manifests/1.0")[0] == 200
        assert two.refuses(1, "build", REV="same").startswith("1 of 2 images failed\n  pause: ")
    assert "\nsleep: done\n" in two.ends("all-container", REV="same").stderr
    assert two.refuses(1, "check", REGISTRY=recorder.host).startswith("1 of 2 images failed\n  pause: ")
    program.write_text(sound)
    changes = [each["change"] for each in results(two("all-push", "--json", REGISTRY=recorder.host, REV="same"))]
    assert changes == ["pushed"] * EACH + ["kept"] * EACH


def test_two_registries_get_both(two: Checkout, recorder: Recorder) -> None:
    places = [f"{recorder.host}/a", f"{recorder.host}/b"]
    run = two("all-push", "--registry", places[0], "--registry", places[1])
    a, b = names(places[0]), names(places[1])
    assert list(run.digests) == [*a[:EACH], *b[:EACH], *a[EACH:], *b[EACH:]]
    assert [run.digests[name] for name in a] == [run.digests[name] for name in b]
    message = two.refuses(1, "all-push", "--registry", places[0], "--registry", "localhost:1", "--timeout", "5")
    assert message.startswith("2 of 2 images failed\n  pause: 1 of 2 registries failed\n    localhost:1: ")
    assert message.count("retry: finished work is kept") == 1


def test_both_are_copied_through_one_archive(two: Checkout, recorder: Recorder) -> None:
    run = two("all-push", REGISTRY=recorder.host)
    packed = two("copy", recorder.host, "oci-archive:both.tar")
    assert list(packed.digests) == [name.replace(f"{recorder.host}/", "oci-archive:both.tar:") for name in run.digests]
    assert list(two("copy", "oci-archive:both.tar", "oci:out").digests.values()) == list(run.digests.values())
    (two.root / "one.tar").unlink(missing_ok=True)
    two("copy", recorder.host, "oci-archive:one.tar", "--image", "sleep")
    assert len(two("copy", "oci-archive:one.tar", "oci:other").digests) == len(run.digests) - EACH
    message = two.refuses(1, "copy", "oci-archive:one.tar", "oci:other", "--image", "pause", "--image", "sleep")
    assert message.startswith("1 of 2 images failed\n  pause:3.1: ")
    assert inspect("oci:other/tools/sleep:1.0", "--raw", cwd=two.root)[0] == run.digests[names(recorder.host)[EACH]]


def test_images_that_share_a_repository_keep_their_own_names(two: Checkout) -> None:
    """Each row says where the images of its arches stand, also after a copy, and through an archive."""
    two.edit("arches.yaml", '"{registry}/tools/sleep"', '"{registry}/pause"')
    two.edit("arches.yaml", "tools/sleep-{arch}:{tag}", "pause:{tag}-linux-{arch}")
    made = two("all-push").digests
    shared = ["3.1", "1.0", *(f"1.0-linux-{arch}" for arch in RELEASE)]
    assert [each for each in made if "/pause:" in each] == [f"oci:dist/pause:{tag}" for tag in shared]
    copies = [("oci:dist", "oci:copy"), ("oci:dist", "oci-archive:all.tar"), ("oci-archive:all.tar", "oci:back")]
    for source, target in copies:
        place = f"{target}:" if "archive" in target else f"{target}/"
        copied = two("copy", source, target).digests
        assert copied == {each.replace("oci:dist/", place): digest for each, digest in made.items()}


def test_only_the_lists(two: Checkout, recorder: Recorder) -> None:
    two("all-push-images", REGISTRY=recorder.host)
    assert list(two("push-manifest", REGISTRY=recorder.host).digests) == names(recorder.host)


def test_a_node_uses_one_image(two: Checkout, recorder: Recorder) -> None:
    two("all-push", REGISTRY=recorder.host)
    message = two.refuses(2, "use", REGISTRY=recorder.host)
    assert "found 2 images (pause, sleep), expected one" in message
    assert "--image NAME" in message
    assert f"{recorder.host}/pause@sha256:" in two("use", "--image", "pause", REGISTRY=recorder.host).stdout


def test_verify_names_the_image_that_fails(two: Checkout) -> None:
    # On a machine where nothing can be run the verdict is another, but of the same image.
    run = two.ends("verify", "--arch", "amd64", "--json", "--allow-not-run")
    verdicts = results(run)
    assert [each["image"] for each in verdicts] == ["pause", "sleep"]
    if all(each["method"] for each in verdicts):
        assert run.code == 1
        assert "\n  sleep: amd64: version: " in run.stderr
        assert "pause: amd64" not in run.stderr


@pytest.mark.xdist_group("docker")
def test_one_toolchain_container_compiles_both(
    two: Checkout, docker: Docker, recorder: Recorder, toolchain: dict[str, str]
) -> None:
    began = time.time()
    words = ("all-push", "--engine", "docker", "--arch", "arm", "--arch", "arm64")
    run = two(*words, REGISTRY=recorder.host, **toolchain)
    assert len(toolchains_started(docker, began)) == 1
    kept = [
        name for name in names(recorder.host) if name.rpartition(":")[0].endswith(("pause", "sleep", "arm", "arm64"))
    ]
    assert list(run.digests) == kept
    (two.root / "pause.c").write_text("int main")
    message = two.refuses(1, *words, "--overwrite", REGISTRY=recorder.host, **toolchain)
    assert message.startswith("1 of 2 images failed\n  pause: ")


def toolchains_started(docker: Docker, began: float) -> list[str]:
    """Every start of a toolchain's container since then; the daemon remembers no more than 256 events."""
    starts = ("--filter=event=start", "--filter=label=io.k8s.pause.toolchain")
    return docker("events", f"--since={began:.6f}", "--until=0s", *starts).splitlines()


# Each edit replaces text in the second image's row; § marks the position that the message must give.
COLLISIONS = [
    ('"{registry}/tools/sleep"', '§"{registry}/pause"', "images.sleep.repository", "3.1, which image 'pause' has too"),
    (
        '"{registry}/tools/sleep"',
        '§"{registry}/pause-arm"',
        "images.sleep.repository",
        "{registry}/pause-arm:3.1, which",
    ),
    ("tools/sleep-{arch}", "pause-{arch}", "images.sleep.arch-reference", "{registry}/pause-amd64:3.1, which image"),
    ("waker:", "orphan: §", "images.sleep.companions.orphan", "program 'orphan', which image 'pause' has too"),
    ("waker:", "pause: §", "images.sleep.companions.pause", "program 'pause', which image 'pause' has too"),
    ("  sleep:\n    ", "  orphan:\n    §", "images.orphan", "program 'orphan', which image 'pause' has too"),
]


@pytest.mark.parametrize(("old", "new", "key", "found"), COLLISIONS)
def test_two_images_that_collide_are_refused(tmp_path: Path, old: str, new: str, key: str, found: str) -> None:
    assert ROW.count(old) == 1
    row = ROW.replace('"1.0"', '"3.1"').replace(old, new)
    marked = (SOURCE / "arches.yaml").read_text().replace("\ndefaults:\n", f"{row}\ndefaults:\n")
    (tmp_path / "arches.yaml").write_text(marked.replace("§", ""))
    with pytest.raises(UsageError) as raised:
        read_settings(tmp_path / "arches.yaml")
    place, _, rest = str(raised.value).partition(": ")
    assert rest.startswith(f"{key}: found ")
    assert found in rest
    if "§" in marked:
        assert place == f"arches.yaml:{marked[: marked.index('§')].count(chr(10)) + 1}"


def test_two_images_may_share_a_repository_under_two_tags(tmp_path: Path) -> None:
    row = ROW.replace("tools/sleep", "pause")
    text = (SOURCE / "arches.yaml").read_text().replace("\ndefaults:\n", f"{row}\ndefaults:\n")
    (tmp_path / "arches.yaml").write_text(text)
    assert list(read_settings(tmp_path / "arches.yaml").images) == ["pause", "sleep"]
