"""docker-bake.json: its content, its refusals, and what BuildKit builds from it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from build.compilers.compiler import Program, gcc_flags
from tests.support.checkout import RELEASE, SETTINGS, Checkout, results
from tests.support.components import need
from tests.support.daemons import private, toolchain_root

REGISTRY = {"REGISTRY": "registry.example/team"}
# The attributes of a target and their types, from the table in Docker's Bake file reference; there is no schema of it.
DOCUMENTED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("context", "dockerfile", "dockerfile-inline", "target"), str),
    **dict.fromkeys(("args", "contexts", "labels"), dict),
    **dict.fromkeys(("annotations", "attest", "cache-from", "cache-to", "inherits", "no-cache-filter"), list),
    **dict.fromkeys(("output", "platforms", "secret", "ssh", "tags"), list),
    **dict.fromkeys(("no-cache", "pull"), bool),
}


def baked(checkout: Checkout) -> dict[str, Any]:
    """The targets of docker-bake.json, which has the form that bake takes."""
    document = json.loads((checkout.root / "docker-bake.json").read_text())
    assert set(document) == {"group", "target"}
    targets: dict[str, Any] = document["target"]
    for group in document["group"].values():
        assert set(group) == {"targets"}
        assert set(group["targets"]) <= set(targets)
    for name, target in targets.items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", name)
        assert set(target) <= set(DOCUMENTED)
        assert all(isinstance(value, DOCUMENTED[key]) for key, value in target.items())
        for value in target.values():
            assert not isinstance(value, list) or all(isinstance(each, str) for each in value)
            assert not isinstance(value, dict) or all(isinstance(each, str) for each in value.values())
    assert document["group"]["default"]["targets"] == list(targets)
    return targets


def test_a_target_for_every_arch(checkout: Checkout) -> None:
    run = checkout("bake", **REGISTRY)
    assert list(run.digests) == ["docker-bake.json"]
    targets = baked(checkout)
    assert list(targets) == [f"pause-{arch}" for arch in RELEASE]
    for arch in RELEASE:
        target = targets[f"pause-{arch}"]
        assert target["platforms"] == [str(SETTINGS.arches[arch].platform)]
        assert target["tags"] == [f"registry.example/team/pause-{arch}:3.1"]
        assert target["args"] == {"SOURCE_DATE_EPOCH": "981147906"}
        # With provenance an image would be an index, and push-manifest takes none.
        assert target["attest"] == ["type=provenance,disabled=true"]


def test_it_compiles_with_the_command_of_the_kube_cross_compiler(checkout: Checkout) -> None:
    checkout("bake", "--libc", "--arch", "arm", KUBE_CROSS_IMAGE="a.b/cross", KUBE_CROSS_VERSION="7", **REGISTRY)
    libc = baked(checkout)["pause-arm"]["dockerfile-inline"]
    checkout("bake", "--arch", "all", "--cflags", "-O1 '-DA=x y'", **REGISTRY)
    assert libc.startswith("FROM --platform=$BUILDPLATFORM a.b/cross:7 AS compile\n")
    assert "build/runtime" not in libc
    program = Program("pause", SETTINGS.images["pause"].sources, ("-O1", "-DA=x y"), checkout.version)
    for arch in RELEASE:
        row = SETTINGS.arches[arch]
        [run] = re.findall(r"^RUN (.*)$", baked(checkout)[f"pause-{arch}"]["dockerfile-inline"], re.MULTILINE)
        assert json.loads(run) == [f"{row.triple}-gcc", *gcc_flags(program, row), "-o", f"/pause-{arch}"]


def test_the_template_gets_the_binary_from_the_compile_stage(checkout: Checkout) -> None:
    checkout("bake", **REGISTRY)
    _, image = baked(checkout)["pause-s390x"]["dockerfile-inline"].split("\nFROM scratch\n")
    lines = image.splitlines()
    assert lines[0] == 'COPY --from=compile ["/pause-s390x", "/pause"]'
    assert lines[1].startswith('LABEL "org.opencontainers.image.created"="2001-02-02T21:05:06Z"')
    assert lines[2:] == ["USER 65535:65535", 'ENTRYPOINT ["/pause"]']


@pytest.mark.parametrize(
    ("line", "copied"),
    [
        ('COPY ["{{ binary }}", "/a b"]', 'COPY --from=compile ["/pause-arm", "/a b"]'),
        ("COPY --chown=1:2 ./{{ binary }} /bin/", 'COPY --from=compile --chown=1:2 ["/pause-arm", "/bin/"]'),
        ("ADD {{ binary }} /pause", 'COPY --from=compile ["/pause-arm", "/pause"]'),
        ("COPY {{ binary }} /p\nCOPY pause.c /", 'COPY --from=compile ["/pause-arm", "/p"]\nCOPY pause.c /'),
    ],
)
def test_every_form_of_copy(checkout: Checkout, line: str, copied: str) -> None:
    checkout.edit("Dockerfile.j2", "COPY {{ binary }} /{{ image.name }}", line)
    checkout("bake", "--arch", "arm", **REGISTRY)
    assert f"\n{copied}\nLABEL" in baked(checkout)["pause-arm"]["dockerfile-inline"]


def test_bake_expressions_are_escaped(checkout: Checkout) -> None:
    checkout.edit("Dockerfile.j2", "USER", "ENV A=${B} C=%{d} E=$F\nUSER")
    checkout("bake", **REGISTRY)
    assert "\nENV A=$${B} C=%%{d} E=$F\n" in baked(checkout)["pause-arm"]["dockerfile-inline"]


def test_several_registries_and_dockers_media_types(checkout: Checkout) -> None:
    checkout("bake", "--registry", "a.b", "--registry", "c.d/e", "--format", "docker")
    target = baked(checkout)["pause-arm"]
    assert target["tags"] == ["a.b/pause-arm:3.1", "c.d/e/pause-arm:3.1"]
    assert "oci-mediatypes=false" in target["output"][0].split(",")


def test_a_layout_is_refused(checkout: Checkout) -> None:
    before = checkout.snapshot()
    assert "REGISTRY oci:dist: found a folder, expected a registry" in checkout.refuses(2, "bake")
    assert checkout.snapshot() == before


def test_sources_that_builders_can_not_copy_are_refused(checkout: Checkout) -> None:
    (checkout.root / "more.c").write_text("")
    checkout.edit("arches.yaml", "sources: [pause.c]", "sources: [pause.c, more.c]")
    message = checkout.refuses(2, "bake", **REGISTRY)
    assert message.startswith("more.c: .dockerignore excludes it from the build context\n  add a line there: !more.c")
    checkout.edit(".dockerignore", "!pause.c", "!*.c")
    checkout("bake", **REGISTRY)
    assert '\nCOPY ["more.c", "pause.c", "./"]\n' in baked(checkout)["pause-arm"]["dockerfile-inline"]


@pytest.mark.parametrize(
    ("line", "words"),
    [("COPY pause.c /", "no COPY of {{ binary }}"), ("COPY {{ binary }} pause.c /", "use a separate COPY")],
)
def test_a_template_without_the_binary_is_refused(checkout: Checkout, line: str, words: str) -> None:
    checkout.edit("Dockerfile.j2", "COPY {{ binary }} /{{ image.name }}", line)
    assert words in checkout.refuses(1, "bake", **REGISTRY)
    assert not (checkout.root / "docker-bake.json").exists()


def test_dry_writes_nothing_and_clean_removes_it(checkout: Checkout) -> None:
    before = checkout.snapshot()
    plan = checkout("--dry", "bake", **REGISTRY)
    assert checkout.snapshot() == before
    run = checkout("bake", **REGISTRY)
    assert (plan.stdout.split(), run.stdout.split()) == (["made", run.stdout.strip()], [run.stdout.strip()])
    assert checkout.git("--no-optional-locks", "status", "--porcelain") == ""
    assert [each["change"] for each in results(checkout("bake", "--json", **REGISTRY))] == ["kept"]
    assert "docker-bake.json" in checkout("clean").stdout.splitlines()
    assert checkout.snapshot() == before


def buildx(checkout: Checkout, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`docker buildx WORDS` in the checkout, with the plugins of whoever runs the tests."""
    settings = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    return subprocess.run(
        [need("docker", "docker.io"), "buildx", *words],
        cwd=checkout.root,
        env=checkout.environment(DOCKER_CONFIG=settings, **environment),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bakery(checkout: Checkout) -> Checkout:
    """A clone where `docker buildx` can be run. Debian 12 has none, so a test does without it."""
    if buildx(checkout, "version").returncode:
        pytest.skip("docker buildx: not installed; Debian 13 has it: apt-get install docker-buildx")
    return checkout


def test_bake_parses_the_file(bakery: Checkout) -> None:
    bakery.edit("Dockerfile.j2", "USER", "ENV A=${B} C=%{d} E=$F\nUSER")
    bakery("bake", **REGISTRY)
    run = buildx(bakery, "bake", "--print")
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout)
    assert printed["group"]["default"]["targets"] == [f"pause-{arch}" for arch in RELEASE]
    for name, target in baked(bakery).items():
        for key in ("context", "args", "platforms", "tags"):
            assert printed["target"][name][key] == target[key]
        inline = target["dockerfile-inline"].replace("$${", "${").replace("%%{", "%{")
        assert printed["target"][name]["dockerfile-inline"] == inline


@pytest.mark.xdist_group("pods")
def test_buildkit_compiles_the_same_bytes(bakery: Checkout) -> None:
    with private(bridge=True) as docker:
        docker.import_(toolchain_root(), "pause-tests/kube-cross:bookworm")
        ours = {
            "DOCKER_HOST": docker.host,
            "KUBE_CROSS_IMAGE": "pause-tests/kube-cross",
            "KUBE_CROSS_VERSION": "bookworm",
        }
        bakery("bake", **ours, **REGISTRY)
        to_tar = [f"--set=pause-{arch}.output=type=tar,dest={bakery.side}/{arch}.tar" for arch in RELEASE]
        run = buildx(bakery, "bake", *to_tar, DOCKER_HOST=docker.host)
        assert run.returncode == 0, run.stderr
        bakery("build", "--arch", "all", "--compiler", "kube-cross", **ours)
    for arch in RELEASE:
        with tarfile.open(fileobj=BytesIO((bakery.side / f"{arch}.tar").read_bytes())) as tape:
            member = tape.extractfile("pause")
            assert member
            assert member.read() == (bakery.root / f"bin/pause-{arch}").read_bytes()
