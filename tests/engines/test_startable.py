"""What an image could not run on its CPU, or not start at all, is refused before anything of it is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import Checkout
from tests.support.daemons import Docker
from tests.support.registries import Recorder
from tests.support.strangers import elf

PUSH = ("all-push", "--arch", "arm")
DOCKER = (*PUSH, "--engine", "docker", "--compiler", "zig")
REFUSALS = [
    pytest.param(
        "COPY tool /tool\n", elf("amd64"), 0o755, "tool (arm): ELF machine: found EM_X86_64, expected EM_ARM", id="CPU"
    ),
    pytest.param(
        "COPY tool /lib/tool.so\n", elf("s390x", kind=3), 0o644, "(arm): ELF machine: found EM_S390", id="library"
    ),
    pytest.param(
        "COPY tool /tool\n", elf("arm")[:19], 0o755, "tool (arm): not an ELF file: it begins with", id="truncated"
    ),
    pytest.param(
        'COPY tool /tool\nENTRYPOINT ["/tools"]\n', b"x", 0o755, "(arm): no file '/tools' in the layers", id="missing"
    ),
    pytest.param(
        'COPY tool /tool\nENTRYPOINT ["/tool"]\n', b"x", 0o644, "(arm): '/tool' is not executable", id="not executable"
    ),
    pytest.param(
        'COPY tool /tool\nENTRYPOINT ["/tool"]\n', b"#!/bin/sh\n", 0o755, "interpreter '/bin/sh' is not", id="script"
    ),
    pytest.param(
        'COPY tool /tool\nENTRYPOINT ["/tool"]\n', b"text", 0o755, "'/tool': not an ELF file", id="no program"
    ),
    pytest.param('COPY tool /tool\nENTRYPOINT ["tool"]\n', b"x", 0o755, "no program 'tool'", id="not in PATH"),
]


def edited(checkout: Checkout, dockerfile: str, tool: bytes, mode: int) -> Checkout:
    """A checkout whose Dockerfile ends with more instructions, and copies the file `tool`."""
    with (checkout.root / "Dockerfile.j2").open("a") as recipe:
        recipe.write(f"\n{dockerfile}")
    with (checkout.root / ".dockerignore").open("a") as ignored:
        ignored.write("!tool\n")
    (checkout.root / "tool").write_bytes(tool)
    (checkout.root / "tool").chmod(mode)
    return checkout


@pytest.mark.parametrize(("dockerfile", "tool", "mode", "complaint"), REFUSALS)
def test_the_embedded_engine_publishes_nothing(
    checkout: Checkout, recorder: Recorder, dockerfile: str, tool: bytes, mode: int, complaint: str
) -> None:
    edited(checkout, dockerfile, tool, mode)
    for _ in range(2):  # nor the second time, when the cache has what the first has made
        message = checkout.refuses(1, *PUSH, REGISTRY=recorder.host)
        assert complaint in message
    assert [line for line in recorder.lines if line.startswith("PUT ")] == []


def test_what_is_right_passes(checkout: Checkout, recorder: Recorder) -> None:
    edited(checkout, "COPY tool /tool\nCOPY notes /notes\n", elf("arm", kind=3), 0o755)
    (checkout.root / "notes").write_bytes(elf("amd64", kind=1))  # an object file is data
    with (checkout.root / ".dockerignore").open("a") as ignored:
        ignored.write("!notes\n")
    assert len(checkout(*PUSH, REGISTRY=recorder.host).digests) == 2


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize(("dockerfile", "tool", "mode", "complaint"), [REFUSALS[0], REFUSALS[3]])
def test_the_daemon_pushes_nothing(
    checkout: Checkout,
    docker: Docker,
    recorder: Recorder,
    dockerfile: str,
    tool: bytes,
    mode: int,
    complaint: str,
) -> None:
    edited(checkout, dockerfile, tool, mode)
    for _ in range(2):
        message = checkout.refuses(1, *DOCKER, DOCKER_HOST=docker.host, REGISTRY=recorder.host)
        assert complaint in message
    assert [line for line in recorder.lines if line.startswith("PUT ")] == []


@pytest.mark.xdist_group("docker")
def test_the_daemons_base_may_have_programs_for_any_cpu(
    checkout: Checkout, docker: Docker, recorder: Recorder, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY tool /base\n")
    (tmp_path / "tool").write_bytes(elf("amd64"))
    docker("build", "--quiet", "--platform", "linux/arm/v7", "--tag", "pause-tests/base:1", str(tmp_path))
    edited(checkout, "COPY tool /tool\n", elf("arm"), 0o755)
    checkout.edit("Dockerfile.j2", "FROM scratch\n", "FROM pause-tests/base:1\n")
    run = checkout(*DOCKER, DOCKER_HOST=docker.host, REGISTRY=recorder.host)
    assert len(run.digests) == 2
    docker("rmi", "pause-tests/base:1")
