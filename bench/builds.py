"""Programs to compare: pause as it is, with musl, with glibc, and one that waits in a handler as 3.1 did."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.running import ROOT, Checkout, run
from build.cli.options import CACHE
from build.config.arches import Arch
from build.config.parse import read_settings

NAMES = ("pause", "musl", "glibc", "handler")
NATIVE = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}.get(platform.machine(), "")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "pause": (),
    "musl": ("--libc",),
    "glibc": ("--libc", "--compiler", "host"),
}


@dataclass(frozen=True)
class Built:
    """A program for this machine's CPU, and bytes of program and compressed image for each CPU that it was made for."""

    program: Path
    bytes: dict[str, int]
    image_bytes: dict[str, int]


def build(name: str, scratch: Path) -> tuple[Built, dict[str, str]]:
    """A build of this name, and the arches that it could not be made for here, each with the reason."""
    checkout = Checkout.clone(scratch, name)
    settings = read_settings(checkout.root / "arches.yaml")
    arches = settings.select(settings.defaults.release)
    if name == "handler":
        return _handler(checkout), {}
    missing = _without_gcc(arches) if name == "glibc" else {}
    made = [arch.name for arch in arches if arch.name not in missing]
    if name == "musl":
        _keep_libcs(checkout)
    words = [word for arch in made for word in ("--arch", arch)]
    checkout.invoke("push", *words, *_OPTIONS[name])
    checkout.invoke("build", *words, *_OPTIONS[name])
    checkout.invoke("orphan", "--arch", NATIVE)
    folder = checkout.root / "bin"
    return Built(
        folder / f"pause-{NATIVE}",
        {arch: (folder / f"pause-{arch}").stat().st_size for arch in made},
        {arch: _image_bytes(checkout.root / "dist" / f"pause-{arch}") for arch in made},
    ), missing


def lacking(names: Collection[str]) -> dict[str, str]:
    """Which of these builds can't be made or run here, and why."""
    native = read_settings(ROOT / "arches.yaml").arches.get(NATIVE)
    if native is None:
        return dict.fromkeys(names, f"{platform.machine()}: not a CPU of the release")
    gcc = _without_gcc([native])
    return {name: gcc[NATIVE] for name in ("glibc", "handler") if gcc and name in names}


def _handler(checkout: Checkout) -> Built:
    program = checkout.root / "handler"
    triple = read_settings(checkout.root / "arches.yaml").arches[NATIVE].triple
    command = [f"{triple}-gcc", "-Os", "-Wall", "-Werror", "-static", "-s", "-o", str(program)]
    run([*command, str(ROOT / "bench" / "handler.c")], checkout.root, checkout.home)
    return Built(program, {NATIVE: program.stat().st_size}, {})


def _without_gcc(arches: Collection[Arch]) -> dict[str, str]:
    return {arch.name: f"{arch.triple}-gcc: not found" for arch in arches if not shutil.which(f"{arch.triple}-gcc")}


def _keep_libcs(checkout: Checkout) -> None:
    """Have zig find the libcs of earlier runs: it takes minutes to build them."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pause-image" / "zig"
    kept.mkdir(parents=True, exist_ok=True)
    (checkout.root / CACHE).mkdir(parents=True)
    (checkout.root / CACHE / "zig").symlink_to(kept)


def _image_bytes(layout: Path) -> int:
    """What a node pulls: manifest, config and layers."""
    [entry] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest: dict[str, Any] = json.loads((layout / "blobs" / re.sub(":", "/", entry["digest"])).read_bytes())
    pulled = (entry, manifest["config"], *manifest["layers"])
    return sum(int(each["size"]) for each in pulled)
