"""Pods of a node that got the image by `ctr -n k8s.io images import`: real containerd, asked as kubelet asks it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run
from tests.support.containerd import Containerd, Cri, own_containerd
from tests.support.pidns import until

NATIVE = next((arch for arch in RELEASE if SETTINGS.arches[arch].qemu == os.uname().machine), "")
pytestmark = pytest.mark.skipif(not NATIVE, reason="the release has no image for this machine")
ORPHANS = 7


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """A node whose pods use the image of this name."""
    with own_containerd(request.param) as containerd:
        yield containerd


@pytest.fixture
def cri(node: Containerd) -> Iterator[Cri]:
    with node.cri() as cri:
        yield cri


def await_program(node: Containerd, pid: int, program: Path) -> None:
    """Wait until a pod's first process, which the runtime starts, executes `program`."""
    look = [*node.enter, "cat", f"/proc/{pid}/exe"]
    executed = lambda: subprocess.run(look, check=False, capture_output=True).stdout == program.read_bytes()  # noqa: E731
    until("the pod's process is our program", executed)


def zombies(node: Containerd, pid: int) -> list[str]:
    """The children of a process that have ended and that nobody has buried."""
    script = f"for each in $(cat /proc/{pid}/task/{pid}/children); do grep State: /proc/$each/status; done"
    run = subprocess.run([*node.enter, "sh", "-c", script], check=False, capture_output=True, text=True, timeout=60)
    return [line for line in run.stdout.splitlines() if "Z" in line]


def orphaned(node: Containerd, pid: int, orphan: Path) -> None:
    """Leave ORPHANS orphans to a pod's first process, and wait until they have ended."""
    command = [*node.enter, "nsenter", f"--target={pid}", "--pid", str(orphan), str(ORPHANS)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert len([line for line in said if line.startswith("Child exiting:") and line.endswith("ppid=1")]) == ORPHANS


@pytest.mark.parametrize("node", [f"pause-{NATIVE}:3.1"], indirect=True)
def test_a_pod_of_an_imported_archive(checkout: Checkout, node: Containerd, cri: Cri) -> None:
    checkout("container", "--arch", NATIVE)
    checkout("orphan", "--arch", NATIVE)
    node("--namespace=k8s.io", "images", "import", str(checkout.root / f"bin/pause-{NATIVE}.tar"))
    until("nodes see the image", lambda: cri.names() == [f"docker.io/library/pause-{NATIVE}:3.1"])
    with cri.pod() as pod:
        pid = cri.pid(pod)
        await_program(node, pid, checkout.root / f"bin/pause-{NATIVE}")
        orphaned(node, pid, checkout.root / f"bin/orphan-{NATIVE}")
        until("all orphans are buried", lambda: zombies(node, pid) == [])
    gone = [*node.enter, "test", "!", "-e", f"/proc/{pid}"]
    until("the pod is gone", lambda: subprocess.run(gone, check=False).returncode == 0)


@pytest.mark.parametrize("node", ["pause-mutant:3.1"], indirect=True)
def test_orphans_that_nobody_buries_are_seen(checkout: Checkout, node: Containerd, cri: Cri) -> None:
    checkout.edit("pause.c", "    signal(SIGCHLD, SIG_IGN);\n", "")
    checkout("container", "--arch", NATIVE)
    checkout("orphan", "--arch", NATIVE)
    image = f"docker.io/library/pause-{NATIVE}:3.1"
    node("--namespace=k8s.io", "images", "import", str(checkout.root / f"bin/pause-{NATIVE}.tar"))
    node("--namespace=k8s.io", "images", "tag", image, "docker.io/library/pause-mutant:3.1")
    until("nodes see the image", lambda: "docker.io/library/pause-mutant:3.1" in cri.names())
    with cri.pod() as pod:
        pid = cri.pid(pod)
        await_program(node, pid, checkout.root / f"bin/pause-{NATIVE}")
        orphaned(node, pid, checkout.root / f"bin/orphan-{NATIVE}")
        until("the orphans are zombies", lambda: len(zombies(node, pid)) == ORPHANS)


@pytest.mark.parametrize("node", ["pause:3.1"], indirect=True)
def test_a_pod_of_an_imported_release(
    released: tuple[Checkout, Run], node: Containerd, cri: Cri, tmp_path: Path
) -> None:
    """The manifest list is the image; images for other CPUs are beside it."""
    checkout, _ = released
    archive = tmp_path / "release.tar"
    checkout("copy", "oci:dist", f"oci-archive:{archive}")
    node("--namespace=k8s.io", "images", "import", "--all-platforms", str(archive))
    names = [f"docker.io/library/pause{suffix}:3.1" for suffix in ("", *(f"-{arch}" for arch in RELEASE))]
    until("nodes see the images", lambda: set(cri.names()) == set(names))
    with cri.pod() as pod:
        pid = cri.pid(pod)
        await_program(node, pid, checkout.root / f"bin/pause-{NATIVE}")


@pytest.mark.parametrize("node", ["pause:none"], indirect=True)
def test_no_pod_starts_with_no_image(node: Containerd, cri: Cri) -> None:
    assert cri.names() == []
    with pytest.raises(grpc.RpcError, match="failed to get sandbox image"), cri.pod():
        pass
    assert node("--namespace=k8s.io", "containers", "ls", "--quiet") == ""
