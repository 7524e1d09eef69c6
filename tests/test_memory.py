"""An arch more takes little memory: its row becomes a few values, and checking what is made of it leaves nothing."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from build.cache.cache import Cache
from build.compilers import elf
from build.compilers.binary import Binary
from build.compilers.compiler import Program
from build.compilers.zig import Zig
from build.config.arches import read_settings
from build.config.revision import Revision
from build.engines.embedded import Plan, assembled
from build.image import dockerfile
from build.oci.oci import OCI
from build.release.outcomes import finished

ROOT = Path(__file__).parent.parent
SHIPPED = (ROOT / "arches.yaml").read_text()
AMD64 = read_settings(ROOT / "arches.yaml").arches["amd64"]
ROW = """\
  {name}:
    triple: x86_64-linux-gnu
    platform: linux/amd64/{name}
    elf: {{machine: EM_X86_64, class: 64, order: little}}
    qemu: x86_64
"""
LABELS = 'FROM scratch\nCOPY bin/pause-{arch} /pause\nLABEL a="b" c="d"\n'


@contextmanager
def traced() -> Iterator[None]:
    """With no collection of garbage: a run ends before there would be one."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def left_behind(do: Callable[[int], object], times: int = 20) -> float:
    """Bytes that stay of each time."""
    do(0)
    with traced():
        before, _ = tracemalloc.get_traced_memory()
        for number in range(times):
            do(number)
        after, _ = tracemalloc.get_traced_memory()
    return (after - before) / times


@pytest.fixture(scope="module")
def pause(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    program = Program("pause", ("pause.c",), ("-Os", "-static"), "v3.1")
    return Zig(tmp_path_factory.mktemp("zig"))(ROOT, program, AMD64)


def test_a_binary_that_is_checked_leaves_nothing(pause: bytes) -> None:
    assert left_behind(lambda _: elf.check(pause, AMD64.elf, "bin/pause")) < 2048


def test_a_dockerfile_that_is_read_leaves_nothing() -> None:
    assert left_behind(lambda number: dockerfile.read(LABELS.format(arch=number), "Dockerfile.j2")) < 2048


def test_what_is_made_of_an_arch_takes_little(pause: bytes, tmp_path: Path) -> None:
    """Its binary and its image, and the outcomes that they are in: bytes are read where they are worked at."""
    settings, kept = read_settings(ROOT / "arches.yaml").images["pause"], []
    plan = Plan(ROOT, settings, AMD64, "3.1", Revision("mine", 0), OCI, "bin/pause-amd64")

    def make(number: int) -> None:
        cache, data = Cache(tmp_path / str(number)), bytes(bytearray(pause))
        cache.put("binary", data)
        binary = Binary.kept(cache, "binary", data)
        kept.append((finished(binary), finished(assembled(plan, binary, cache))))

    assert left_behind(make) < 4096


def test_a_row_takes_what_is_made_of_it(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        table = tmp_path / "arches.yaml"
        more = "".join(ROW.format(name=f"x{number}") for number in range(rows))
        table.write_text(SHIPPED.replace("images:\n", more + "images:\n", 1))
        read_settings(table)  # for what is loaded once
        with traced():
            read_settings(table)
            return tracemalloc.get_traced_memory()[1]

    assert (peak(300) - peak(100)) / 200 < 2048
