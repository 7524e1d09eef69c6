"""Programs that were built elsewhere: proved and published like compiled ones, each image for its own arches."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from build.compilers.compiler import Program
from build.compilers.zig import Zig
from tests.support.checkout import SETTINGS, SOURCE, Checkout, results
from tests.support.compiling import compiled
from tests.support.components import need
from tests.support.daemons import Docker
from tests.support.reading import complete, inspect, layout_reader
from tests.support.registries import Recorder, registry_reader
from tests.support.strangers import Shelf, tape

ROW = """
  app:
    tag: "1.0"
    repository: "{registry}/app"
    dockerfile: Dockerfile.app.j2
    binary: out/{goos}_{goarch}{goarm}/app
    arches: [amd64, arm]
    user: "65532"
    entrypoint: [/app]
"""
DOCKERFILE = """FROM scratch
COPY {{ binary }} /app
ENTRYPOINT {{ image.entrypoint | tojson }}
"""
FILES = {"amd64": "out/linux_amd64/app", "arm": "out/linux_arm7/app"}
ARCHES = ("amd64", "arm", "arm64", "ppc64le", "s390x")
ONLY = {"IMAGE": "app"}
# A compiler that can't be had.
NO_COMPILER = {**ONLY, "COMPILER": "kube-cross", "DOCKER_HOST": "tcp://localhost:1"}


@pytest.fixture(scope="session")
def programs() -> Mapping[str, bytes]:
    """A static program for each arch."""
    program = Program("pause", ("pause.c",), ("-Os", "-static"), "v1")
    return {arch: compiled(Zig(), SOURCE, program, SETTINGS.arches[arch]) for arch in FILES}


@pytest.fixture(scope="session")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A dynamic program for this machine, and its interpreter."""
    folder = tmp_path_factory.mktemp("dynamic")
    (folder / "app.c").write_text("int main(void) { return 0; }\n")
    subprocess.run([need("gcc", "gcc"), "-o", folder / "app", folder / "app.c"], check=True)
    data = (folder / "app").read_bytes()
    _, _, rest = data.partition(b"/lib")
    return data, f"/lib{rest.partition(bytes(1))[0].decode()}"


@pytest.fixture
def app(checkout: Checkout, programs: Mapping[str, bytes]) -> Checkout:
    """A checkout with a second image, whose programs were built elsewhere."""
    checkout.edit("arches.yaml", "\ndefaults:\n", f"{ROW}\ndefaults:\n")
    (checkout.root / "Dockerfile.app.j2").write_text(DOCKERFILE)
    checkout.commit("a second image")
    for arch, path in FILES.items():
        put(checkout, path, programs[arch])
    return checkout


def put(checkout: Checkout, path: str, data: bytes) -> None:
    """A file as another build leaves it; whether it is executable doesn't matter."""
    (checkout.root / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout.root / path).write_bytes(data)


def names(place: str, image: str, tag: str, arches: tuple[str, ...]) -> list[str]:
    return [f"{place}/{image}:{tag}", *(f"{place}/{image}-{arch}:{tag}" for arch in arches)]


def test_two_images_for_different_arches(app: Checkout, recorder: Recorder, programs: Mapping[str, bytes]) -> None:
    run = app("all-push", REGISTRY=recorder.host)
    published = [*names(recorder.host, "pause", "3.1", ARCHES), *names(recorder.host, "app", "1.0", ("amd64", "arm"))]
    assert list(run.digests) == published
    listed = f"{recorder.host}/app:1.0"
    _, index = inspect(f"docker://{listed}", "--raw")
    assert [each["platform"]["architecture"] for each in index["manifests"]] == ["amd64", "arm"]
    complete(registry_reader(recorder.host, "app"), run.digests[listed])
    _, config = inspect(f"docker://{recorder.host}/app-arm:1.0", "--config")
    assert config["config"]["Entrypoint"] == ["/app"]
    for arch, data in programs.items():
        assert (app.root / f"bin/app-{arch}").read_bytes() == data
        assert (app.root / f"bin/app-{arch}").stat().st_mode & 0o111
    assert app("check", REGISTRY=recorder.host).digests == run.digests
    assert f"{recorder.host}/app@" in app("use", "--image", "app", REGISTRY=recorder.host).stdout

    recorder.forget()
    assert app("all-push", REGISTRY=recorder.host).digests == run.digests
    assert not [line for line in recorder.lines if line.startswith(("PUT", "POST"))]
    assert app("push-manifest", REGISTRY=recorder.host).digests == run.digests
    assert list(app("copy", recorder.host, "oci-archive:both.tar").digests.values()) == list(run.digests.values())
    assert list(app("copy", "oci-archive:both.tar", "oci:out-of").digests.values()) == list(run.digests.values())

    put(app, FILES["arm"], programs["arm"] + b"x")
    plan = app("plan", "--overwrite", "--json", REGISTRY=recorder.host)
    made = {each["path"]: each["reasons"] for each in results(plan) if each["change"] == "made"}
    assert made == {
        "bin/app-arm": [f"{FILES['arm']} changed"],
        "bin/app-arm.tar": ["bin/app-arm changed"],
    }
    app("clean")
    assert (app.root / FILES["arm"]).exists()
    assert not (app.root / "bin").exists()


def test_arches_are_selected_per_image(app: Checkout) -> None:
    run = app("build", "--arch", "amd64", "--arch", "arm64")
    assert list(run.digests) == ["bin/pause-amd64", "bin/pause-arm64", "bin/app-amd64"]
    run = app("container", "--arch", "arm64")
    assert list(run.digests) == ["bin/pause-arm64.tar"]
    assert "app: left out, because it is built for amd64, arm only\n" in run.stderr
    assert list(app("build", "--arch", "all", ALL_ARCH="s390x arm", **ONLY).digests) == ["bin/app-arm"]
    for words, environment in ((("--arch", "arm64"), ONLY), ((), {**ONLY, "ARCH": "arm64"})):
        message = app.refuses(2, "build", *words, **environment)
        assert message.startswith("arch 'arm64': no selected image is built for it; in arches.yaml, they are for\n")
        assert "\n  app: amd64, arm\n  select one of these arches with --arch" in message
    assert "arch 's390x'" in app.refuses(2, "all-push", ALL_ARCH="s390x", **ONLY)
    jobs = json.loads(app("matrix").stdout)["include"]
    assert [job["arch"] for job in jobs] == list(ARCHES)
    assert [job["arch"] for job in json.loads(app("matrix", **ONLY).stdout)["include"]] == ["amd64", "arm"]


def test_each_program_is_compiled_for_its_own_arches(checkout: Checkout) -> None:
    row = ROW.replace(
        "binary: out/{goos}_{goarch}{goarm}/app", "sources: [app.c]\n    cflags: [-Os, -static, -DSTATUS=2]"
    )
    checkout.edit("arches.yaml", "\ndefaults:\n", f"{row.replace('amd64, arm', 'arm')}\ndefaults:\n")
    (checkout.root / "app.c").write_text("int main(void) { return STATUS; }\n")
    (checkout.root / "Dockerfile.app.j2").write_text(DOCKERFILE)
    words = ("plan", "--arch", "amd64", "--arch", "arm", "--json")
    run = checkout("build", *words[1:-1])
    assert list(run.digests) == ["bin/pause-amd64", "bin/pause-arm", "bin/app-arm"]
    assert "amd64: app" not in run.stderr
    checkout.edit("arches.yaml", "-DSTATUS=2", "-DSTATUS=3")
    made = {each["path"]: each["reasons"] for each in results(checkout(*words)) if each.get("path", "").endswith("arm")}
    assert made == {"bin/pause-arm": [], "bin/app-arm": ["CFLAGS -Os -static -DSTATUS=2 → -Os -static -DSTATUS=3"]}
    run = checkout("build", "--arch", "arm", "--cflags", "-Os -static -DSTATUS=4")
    assert "arm: app compiled" in run.stderr


def test_nothing_is_compiled(app: Checkout) -> None:
    run = app("all-push", **NO_COMPILER)
    assert list(run.digests) == names("oci:dist", "app", "1.0", ("amd64", "arm"))
    assert "compiled" not in run.stderr
    complete(layout_reader(app.root / "dist/app"), run.digests["oci:dist/app:1.0"])
    for flag in (("--cflags", "-O1"), ("--compiler", "zig"), ("--libc",)):
        assert app.refuses(2, "build", *flag, **ONLY).startswith(f"{flag[0]}: nothing is compiled, because the row of")


def test_missing_programs_are_named_for_each_arch(app: Checkout) -> None:
    for path in FILES.values():
        (app.root / path).unlink()
    (app.root / FILES["arm"]).mkdir()
    before = app.snapshot()
    for words, environment in ((("build", "--arch", "all"), NO_COMPILER), (("all-push",), ONLY), (("plan",), ONLY)):
        assert app.refuses(1, *words, **environment) == (
            "2 of 2 prebuilt programs can't be read\n"
            "  amd64: out/linux_amd64/app: no such file\n"
            "  arm: out/linux_arm7/app: not a file\n"
            "  build them first, as binary in arches.yaml says, or select other arches with --arch\n"
        )
    assert app.snapshot() == before
    message = app.refuses(1, "all-push", REV="v1")
    assert message.startswith("1 of 2 images failed\n  app: 2 of 2 prebuilt programs can't be read\n")
    assert (app.root / "dist/pause/index.json").exists()


def test_a_program_for_another_cpu_is_refused_before_anything_is_written(
    app: Checkout, programs: Mapping[str, bytes]
) -> None:
    put(app, FILES["arm"], programs["amd64"])
    before = app.snapshot()
    for task in ("build", "all-container", "all-push", "bake"):
        message = app.refuses(1, task, "--arch", "all", REGISTRY="localhost:1", **ONLY)
        assert message == "out/linux_arm7/app (arm): ELF machine: found EM_X86_64, expected EM_ARM\n"
    put(app, FILES["amd64"], programs["amd64"][:-100])
    assert "out/linux_amd64/app (amd64): not a whole ELF file" in app.refuses(1, "build", **ONLY)
    put(app, FILES["amd64"], b"#!/bin/sh\n")
    assert "not an ELF file: it begins with b'#!/bin/sh" in app.refuses(1, "build", **ONLY)
    put(app, FILES["amd64"], programs["amd64"])
    assert {name: each for name, each in app.snapshot().items() if "out" not in name} == {
        name: each for name, each in before.items() if "out" not in name
    }


def based(checkout: Checkout, files: Mapping[str, bytes | None]) -> None:
    """Have the image built upon a layout that has these files."""
    shelf = Shelf(checkout.root / "vendor/base")
    shelf.tag("1", shelf.image("linux/amd64", [tape(files)], {"Env": ["PATH=/bin"]}))
    checkout.edit("Dockerfile.app.j2", "FROM scratch", "FROM oci:vendor/base:1")


def test_a_dynamic_program_needs_its_interpreter(
    app: Checkout, recorder: Recorder, programs: Mapping[str, bytes], dynamic: tuple[bytes, str]
) -> None:
    program, interpreter = dynamic
    put(app, FILES["amd64"], program)
    words = ("push", "--arch", "amd64")
    app("build", **ONLY)
    refused = f"interpreter '{interpreter}' of "
    message = app.refuses(1, *words, REGISTRY=recorder.host, **ONLY)
    assert f"{refused}program '/app'" in message
    assert "link it statically, or use a base that has it\n" in message
    put(app, "init", programs["amd64"])  # a program that starts it
    app.edit("Dockerfile.app.j2", "ENTRYPOINT", "COPY --chmod=755 init /\nENTRYPOINT")
    app.edit("arches.yaml", "entrypoint: [/app]", "entrypoint: [/init, /app]")
    (app.root / ".dockerignore").write_text("*\n!init\n")
    assert f"{refused}bin/app-amd64" in app.refuses(1, *words, REGISTRY=recorder.host, **ONLY)
    assert not [line for line in recorder.lines if line.startswith("PUT")]
    based(app, {interpreter[1:]: Path(interpreter).read_bytes()})
    app(*words, REGISTRY=recorder.host, **ONLY)
    run = app("push-manifest", "--arch", "amd64", REGISTRY=recorder.host, **ONLY)
    assert app("check", "--arch", "amd64", REGISTRY=recorder.host, **ONLY).digests == run.digests
    app("copy", recorder.host, "oci:copy", "--arch", "amd64", **ONLY)


def test_a_script(app: Checkout, programs: Mapping[str, bytes]) -> None:
    app.edit("arches.yaml", "binary: out/{goos}_{goarch}{goarm}/app\n", "binary: app.sh\n    elf: none\n")
    put(app, "app.sh", b"#!/bin/sh -e\n")
    words = ("push", "--arch", "amd64")
    assert "interpreter '/bin/sh' is not in the layers" in app.refuses(1, *words, **NO_COMPILER)
    based(app, {"bin": None, "bin/sh": programs["amd64"]})
    run = app(*words, **NO_COMPILER)
    assert list(run.digests) == ["oci:dist/app-amd64:1.0"]
    app("push-manifest", "--arch", "amd64", **ONLY)
    app("check", "--arch", "amd64", **ONLY)
    put(app, "app.sh", programs["amd64"])
    assert "app.sh (amd64): found an ELF file, expected a script" in app.refuses(1, "build", **ONLY)


def test_a_large_program(app: Checkout, programs: Mapping[str, bytes]) -> None:
    put(app, FILES["amd64"], programs["amd64"] + bytes(70 << 20))
    run = app("all-push", "--arch", "amd64", **ONLY)
    assert app("check", "--arch", "amd64", **ONLY).digests == run.digests


def test_what_a_row_says_is_verified(app: Checkout) -> None:
    run = app("verify", "--arch", "amd64", "--allow-not-run", **ONLY)
    assert "app: not run, because its row in arches.yaml asks for no checks (key verify)" in run.stderr
    checks = "[cpu, version, SIGTERM, orphans]"
    app.edit("arches.yaml", 'user: "65532"', f'user: "65532"\n    verify: {{version: pause.c v1, checks: {checks}}}')
    [verdict] = results(app("verify", "--arch", "amd64", "--json", "--allow-not-run", **ONLY))
    if verdict["method"]:
        assert [each["passed"] for each in verdict["checks"]] == [True] * 4


def test_bake_copies_it(app: Checkout) -> None:
    place = {"REGISTRY": "registry.example"}
    assert "add a line there: !out/linux_amd64/app" in app.refuses(2, "bake", **ONLY, **place)
    (app.root / ".dockerignore").write_text("*\n!pause.c\n!build/runtime\n!out\n")
    app.edit("Dockerfile.app.j2", "}} /app", "}} /bin/")
    app("bake", **place)
    targets: dict[str, Any] = json.loads((app.root / "docker-bake.json").read_text())["target"]
    assert list(targets) == [*(f"pause-{arch}" for arch in ARCHES), "app-amd64", "app-arm"]
    assert targets["app-arm"]["dockerfile-inline"] == (
        'FROM scratch\nCOPY --chmod=755 ["out/linux_arm7/app", "/bin/app-arm"]\nENTRYPOINT ["/app"]\n'
    )
    assert "AS compile" in targets["pause-arm"]["dockerfile-inline"]


@pytest.mark.xdist_group("docker")
def test_the_docker_engine_takes_it(
    app: Checkout, docker: Docker, recorder: Recorder, dynamic: tuple[bytes, str]
) -> None:
    words = ("all-push", "--engine", "docker")
    place = {"REGISTRY": recorder.host, "DOCKER_HOST": docker.host, **ONLY}
    run = app(*words, **place)
    assert list(run.digests) == names(recorder.host, "app", "1.0", ("amd64", "arm"))
    assert app("check", REGISTRY=recorder.host, **ONLY).digests == run.digests
    put(app, FILES["amd64"], dynamic[0])
    assert f"interpreter '{dynamic[1]}' of " in app.refuses(1, *words, TAG="2", **place)
