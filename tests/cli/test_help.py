"""What explains the tasks: help with an example that works, and completion in a real shell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.cli.test_tasks import TASKS
from tests.support.checkout import SETTINGS, Checkout, Run
from tests.support.components import need
from tests.support.keys import key_pair
from tests.support.registries import Recorder

Released = tuple[Checkout, Run]


def example(checkout: Checkout, task: str) -> list[str]:
    """The words after `invoke` in the example of a task's help."""
    [words] = re.findall(r"^  For example: invoke (.*)$", checkout("--help", task).stdout, re.MULTILINE)
    return str(words).split()


def test_every_example_works(checkout: Checkout, recorder: Recorder) -> None:
    """In the tasks' order a release is there before one needs it; what takes a daemon or root is read, not run."""
    ran = []
    pair = key_pair(checkout.side / "keys")
    shutil.copy(pair.private, checkout.root / "cosign.key")
    shutil.copy(pair.public, checkout.root / "cosign.pub")
    for tag in ("3.0", "3.1"):
        checkout("all-push", REGISTRY=f"{recorder.host}/team", TAG=tag, SIGN_KEY="cosign.key")
    for task in TASKS:
        words = example(checkout, task)
        assert task in words
        words = [word.replace("registry.example", recorder.host) for word in words]
        dry = ["--dry"] if task in ("verify", "kube-cross") or "--verify" in words else []
        run = checkout.ends(*dry, *words)
        assert run.code == 0, (words, run.stderr)
        assert run.stdout or task == "clean"
        ran.append(task)
    assert ran == TASKS


COMPLETE = """
invoke() { "$PYTHON" -m invoke "$@"; }
eval "$(invoke --print-completion-script bash)"
COMP_WORDS=(invoke %s)
_complete_invoke invoke "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("all-", ["all-container", "all-push", "all-push-images"]),
        ("build --ar", ["--arch"]),
        ("build --arch ''", ["all", "linux", "windows", *SETTINGS.arches]),
        ("build --arch pp", ["ppc64le"]),
        ("all-push --image p", ["pause"]),
        ("container --engine d", ["docker"]),
        ("build --compiler k", ["kube-cross"]),
        ("container --format ''", ["oci", "docker"]),
        ("verify --with n", ["namespaces"]),
        ("matrix --for gith", ["github"]),
        ("copy --platform linux/a", ["linux/amd64", "linux/arm/v7", "linux/arm64"]),
        ("ret", ["retag"]),
        ("build --arch arm --com", ["--compiler"]),
    ],
)
def test_a_shell_offers_what_fits(released: Released, typed: str, offered: list[str]) -> None:
    checkout, _ = released
    run = subprocess.run(
        [need("bash", "bash"), "-c", COMPLETE % typed],
        cwd=checkout.root,
        env=checkout.environment(PYTHON=sys.executable),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == offered
