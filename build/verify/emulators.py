"""Whether programs of an arch run on this machine: on its CPU, through binfmt_misc, or by an emulator's name."""

from __future__ import annotations

import shutil
from pathlib import Path

from build.compilers import elf
from build.config.arches import Arch
from build.errors import ElfError
from build.verify.driver import NotRunError, Way

# Where the kernel tells which programs it hands to an interpreter (binfmt-misc.rst).
BINFMT = Path("/proc/sys/fs/binfmt_misc")
NATIVE = Way("native", native=True)


def by_any_means(arch: Arch, path: str | None = None, binfmt: Path = BINFMT) -> Way:
    """Natively, with `qemu-NAME-static` from `path` (else PATH), or as the kernel is set up; or NotRunError."""
    if is_native(arch):
        return NATIVE
    emulator = f"qemu-{arch.qemu}-static"
    found = shutil.which(emulator, path=path)
    if found:
        return Way(emulator, (found,))
    if _flags(arch, binfmt) is not None:
        return Way("binfmt")
    raise NotRunError(f"{arch.name}: {emulator} is not installed\n  apt-get install qemu-user-static")


def in_a_container(arch: Arch, binfmt: Path = BINFMT) -> str:
    """Nothing for this machine's CPU, else "binfmt"; NotRunError if containers get no interpreter from the kernel."""
    if is_native(arch):
        return ""
    flags = _flags(arch, binfmt)
    if flags is None:
        raise NotRunError(
            f"{arch.name}: this kernel runs no such programs (binfmt_misc has no qemu-{arch.qemu})"
            "\n  apt-get install qemu-user-static binfmt-support"
        )
    if "F" not in flags:
        raise NotRunError(
            f"{arch.name}: the interpreter of binfmt_misc's qemu-{arch.qemu} can't be seen in containers, as it has no"
            " flag F\n  apt-get install --reinstall qemu-user-static binfmt-support"
        )
    return "binfmt"


def is_native(arch: Arch) -> bool:
    """Whether this machine's CPU is the arch's: the program that runs this says so in its own header."""
    with Path("/proc/self/exe").open("rb") as ours:
        try:
            elf.check_start(ours.read(elf.HEADER), arch.elf, "this machine")
        except ElfError:
            return False
    return True


def _flags(arch: Arch, binfmt: Path) -> str | None:
    try:
        lines = (binfmt / f"qemu-{arch.qemu}").read_text().splitlines()
    except OSError:
        return None
    enabled = (binfmt / "status").exists() is False or (binfmt / "status").read_text().strip() == "enabled"
    if not enabled or "enabled" not in lines:
        return None
    return next((line.removeprefix("flags:").strip() for line in lines if line.startswith("flags:")), "")
