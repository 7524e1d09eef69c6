"""Checkouts whose tables have more rows: arches, or images with a source and a tag of their own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from bench.running import Checkout

_ROW = """
  {name}:
    triple: x86_64-linux-gnu
    platform: linux/amd64/{name}
    elf: {{machine: EM_X86_64, class: 64, order: little}}
    qemu: x86_64
    runtime: x86_64"""


def arches(scratch: Path, count: int, release: tuple[str, ...]) -> Checkout:
    """A checkout whose release has `count` arches: those of `release`, as many as fit, and further rows."""
    checkout = Checkout.clone(scratch, f"arches-{count}")
    more = [f"x{number}" for number in range(count - len(release))]
    names = ", ".join([*release[:count], *more])
    table = _read(checkout)
    table = table.replace("\narches:\n", "\narches:" + "".join(_ROW.format(name=name) for name in more) + "\n", 1)
    _write(checkout, re.sub(r"^  release: .*$", f"  release: [{names}]", table, flags=re.MULTILINE))
    return checkout


def images(scratch: Path, count: int) -> Checkout:
    """A checkout with `count` images, each like pause, of a source file and a tag of its own."""
    checkout = Checkout.clone(scratch, f"images-{count}")
    table = _read(checkout)
    found = re.search(r"^  pause:\n(?:(?:    .*)?\n)+?(?=\S)", table, re.MULTILINE)
    if not found:
        raise ValueError("arches.yaml has no image called pause")
    row = found[0].rstrip("\n") + "\n"
    more = []
    for number in range(1, count):
        name = f"image{number}"
        shutil.copy(checkout.root / "pause.c", checkout.root / f"{name}.c")
        own = re.sub(r"^    companions:\n(?:      .*\n)+", "", row, flags=re.MULTILINE)
        own = re.sub(r'^    tag: "?[^"\n]+"?', f'    tag: "1.{number}"', own, flags=re.MULTILINE)
        more.append(
            own.replace("pause.c", f"{name}.c").replace("/pause", f"/{name}").replace("  pause:", f"  {name}:", 1)
        )
    _write(checkout, table.replace(found[0], row + "".join(more) + "\n", 1))
    return checkout


def _read(checkout: Checkout) -> str:
    return (checkout.root / "arches.yaml").read_text()


def _write(checkout: Checkout, table: str) -> None:
    (checkout.root / "arches.yaml").write_text(table)
