"""How programs of an arch run on this machine: on its CPU, with an emulator, or through binfmt_misc."""

from __future__ import annotations

import shutil
from pathlib import Path

from build.compilers import elf
from build.config.arches import Arch
from build.errors import ElfError
from build.verify.driver import Method, NotRunError

# Where the kernel lists the interpreters of foreign programs (Documentation/admin-guide/binfmt-misc.rst).
BINFMT = Path("/proc/sys/fs/binfmt_misc")


def method_on_host(arch: Arch, path: str | None = None, binfmt: Path = BINFMT) -> Method:
    """Run natively, with `qemu-NAME-static` from `path` (default: PATH), or through binfmt_misc; else NotRunError."""
    if is_native(arch):
        return Method("native", native=True)
    emulator = f"qemu-{arch.qemu}-static"
    found = shutil.which(emulator, path=path)
    if found:
        return Method(emulator, (found,))
    if _flags(arch, binfmt) is not None:
        return Method("binfmt")
    raise NotRunError(f"{arch.name}: {emulator} is not installed\n  apt-get install qemu-user-static")


def method_in_container(engine: str, arch: Arch, binfmt: Path = BINFMT) -> Method:
    """Run natively in a container of `engine`, or through binfmt_misc; else NotRunError."""
    if arch.platform.is_windows:
        raise NotRunError(
            f"{arch.name}: containers on Linux run no programs for Windows\n  run it under wine: --with namespaces"
        )
    if is_native(arch):
        return Method(f"{engine}, native", native=True)
    flags = _flags(arch, binfmt)
    if flags is None:
        raise NotRunError(
            f"{arch.name}: this kernel can't run such programs (binfmt_misc has no qemu-{arch.qemu})"
            "\n  apt-get install qemu-user-static binfmt-support"
        )
    if "F" not in flags:
        raise NotRunError(
            f"{arch.name}: containers can't see the interpreter of binfmt_misc's qemu-{arch.qemu}, because it has no"
            " flag F\n  apt-get install --reinstall qemu-user-static binfmt-support"
        )
    return Method(f"{engine}, binfmt")


def is_native(arch: Arch) -> bool:
    """Whether this machine's CPU runs programs of `arch`: compares it with the ELF header of this very process."""
    with Path("/proc/self/exe").open("rb") as executable:
        if arch.header.is_pe:
            return False
        try:
            elf.check_start(executable.read(elf.START), arch.header, "this machine")
        except ElfError:
            return False
    return True


def _flags(arch: Arch, binfmt: Path) -> str | None:
    """The flags of the arch's interpreter, or None if there is none that is enabled."""
    try:
        lines = (binfmt / f"qemu-{arch.qemu}").read_text().splitlines()
    except OSError:
        return None
    status = binfmt / "status"
    if "enabled" not in lines or (status.exists() and status.read_text().strip() != "enabled"):
        return None
    return next((line.removeprefix("flags:").strip() for line in lines if line.startswith("flags:")), "")
