"""Every way that a user can go wrong, and what is answered: what happened, where, and what to type next.

Further ways have a file of their own: the command line (test_command_line), tables (test_strict_yaml), disks
(test_disks), Dockerfiles (test_dockerfile), log-in (test_auth), certificates and proxies (test_trust, test_proxies),
faults of registries (test_lasting_faults), Docker (test_docker_refusals, test_kube_cross), and readers that leave
(test_progress). What signals do is in test_interrupts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.checkout import Checkout
from tests.support.registries import Recorder

ARM = "arm-linux-gnueabihf-gcc"


@dataclass(frozen=True)
class Way:
    """Something that goes wrong: how it comes about, what is typed, and what the answer has to name."""

    words: str
    code: int
    what: str
    where: str
    following: str
    set_up: Callable[[Checkout], object] = lambda _: None
    environment: dict[str, str] = field(default_factory=dict)


def without(*names: str) -> Callable[[Checkout], object]:
    return lambda checkout: [(checkout.root / name).rename(checkout.side / Path(name).name) for name in names]


def with_path_of(*programs: str) -> Callable[[Checkout], object]:
    """A machine that has these programs and no other."""

    def set_up(checkout: Checkout) -> None:
        (checkout.side / "programs").mkdir()
        for program in programs:
            (checkout.side / "programs" / program).symlink_to(str(shutil.which(program)))

    return set_up


PROGRAMS = {"PATH": "{side}/programs"}
WAYS = {
    "bad yaml": Way(
        "build",
        2,
        "found a mapping",
        "arches.yaml:",
        "expected",
        lambda c: c.edit("arches.yaml", "triple: s390x-linux-gnu", "triple: {}"),
    ),
    "no table": Way("build", 2, "No such file", "arches.yaml", "git checkout arches.yaml", without("arches.yaml")),
    "unknown arch": Way("build --arch amr64", 2, "unknown arch", "'amr64'", "did you mean 'arm64'"),
    "unknown image": Way("build --image paws", 2, "unknown image", "'paws'", "did you mean 'pause'"),
    "missing source": Way("build", 1, "no such file", "pause.c", "arches.yaml", without("pause.c")),
    "missing Dockerfile": Way(
        "container", 1, "can't be read", "Dockerfile.j2", "arches.yaml", without("Dockerfile.j2")
    ),
    "missing compiler": Way(
        "build --compiler host --arch arm",
        1,
        "not found on PATH",
        ARM,
        "apt-get install gcc-arm-linux-gnueabihf; or compile with --compiler zig",
        with_path_of("git"),
        PROGRAMS,
    ),
    "no daemon": Way(
        "container --engine docker",
        1,
        "no Docker daemon",
        "the daemon",
        "DOCKER_HOST",
        environment={"DOCKER_HOST": "unix:///no/socket"},
    ),
    "no daemon to verify with": Way(
        "verify --with docker --arch amd64",
        1,
        "no Docker daemon",
        "the daemon",
        "--with namespaces",
        environment={"DOCKER_HOST": "unix:///no/socket"},
    ),
    "no such registry": Way("push --registry registry.invalid", 1, "no such host", "registry.invalid", "HTTPS_PROXY"),
    "no registry there": Way("push --registry localhost:1 --timeout 2", 1, "refused", "localhost:1", "--timeout 2 ("),
    "no host for a registry": Way("push --registry team/pause", 2, "not a registry's host", "'team'", "expected HOST"),
    "bad tag": Way("push --tag a/b", 2, "not a tag", "'a/b'", "expected letters"),
    "no credentials": Way("push --registry {basic}", 1, "found none", "{basic}", "docker login {basic}"),
    "no git": Way(
        "build", 2, "git is not installed", "git", "REV=v3.1 SOURCE_DATE_EPOCH=0", with_path_of("sh"), PROGRAMS
    ),
    "no clone": Way(
        "build", 2, "not a git repository", "REV is not set", "REV=v3.1 SOURCE_DATE_EPOCH=0", without(".git")
    ),
    "nothing to list": Way("push-manifest", 1, "no such image", "oci:dist/pause-s390x:3.1", "invoke push --arch"),
    "nothing to copy": Way(
        "copy oci:none oci:other", 1, "no such manifest list", "oci:none/pause:3.1", "invoke push-manifest"
    ),
    "no such archive": Way("copy oci-archive:no.tar oci:other", 1, "no such file", "no.tar", "invoke copy"),
    "nothing to check": Way("check oci:none:1", 1, "not found", "oci:none:1", ""),
    "nothing to use": Way("use --registry {recorder}", 1, "not published", "{recorder}/pause:3.1", "invoke all-push"),
    "a folder for a daemon": Way("push --engine docker", 2, "found a folder", "oci:dist", "REGISTRY=localhost:5000"),
    "moved tag": Way(
        "push --rev new --registry {recorder}",
        1,
        "refusing to move an existing tag",
        "{recorder}/pause-amd64:3.1",
        "--overwrite",
        lambda c: c("push", "--rev", "old", REGISTRY=(c.side / "recorder").read_text()),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_names_what_and_where_and_what_next(
    checkout: Checkout, recorder: Recorder, basic: str, way: str
) -> None:
    names = {"recorder": recorder.host, "basic": basic, "side": str(checkout.side)}
    case = WAYS[way]
    (checkout.side / "recorder").write_text(recorder.host)
    case.set_up(checkout)
    environment = {name: value.format(**names) for name, value in case.environment.items()}
    message = checkout.refuses(case.code, *case.words.format(**names).split(), **environment)
    for expected in (case.what, case.where, case.following):
        assert expected.format(**names) in message


def test_a_dirty_tree_is_told(checkout: Checkout) -> None:
    checkout.edit("pause.c", "pause.c ", "pause: ")
    first, *_ = checkout("build").stderr.splitlines()
    assert first.startswith(f"pause.c: uncommitted changes: REV is {checkout.revision}-dirty")
    assert "changed" not in checkout("build", "--rev", "mine").stderr
    checkout.commit("pause")
    assert "changed" not in checkout("build").stderr
