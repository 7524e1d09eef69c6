"""zig's libcs are kept between runs, and one that has changed since is never linked."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from build.cache.cache import Cache
from build.compilers.libc import proved
from tests.support.checkout import Checkout, ended

FIRST = "compiles a libc first, which takes about a minute"
REMOVED = "not what zig 0."


def flip(path: Path) -> None:
    """Change one bit: in the first letter of what a program prints, or in the middle of the file."""
    data = bytearray(path.read_bytes())
    data[max(0, data.find(b"Shutting down")) or len(data) // 2] ^= 1
    path.write_bytes(data)


# --- with zig ---


def test_a_flipped_bit_in_a_cached_libc_is_not_linked(checkout: Checkout) -> None:
    checkout.edit("arches.yaml", "    sources: [pause.c]\n", "    sources: [pause.c]\n    libc: true\n")
    # It takes a minute where nothing else is going on.
    first = ended(checkout.start("build", "--rev", "1"), timeout=900)
    assert (first.code, first.stderr.count(FIRST)) == (0, 1), first.stderr
    again = checkout("build", "--rev", "2")
    assert FIRST not in again.stderr
    zig, program = checkout.root / ".cache/pause/zig", checkout.root / "bin/pause-amd64"
    for path in zig.rglob("o/*/libc.a"):
        flip(path)
    program.unlink()
    forget_programs(checkout)
    process = checkout.start("build", "--rev", "2")
    assert process.stderr
    assert until_line(process.stderr, FIRST).count(REMOVED) == 1
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    assert not program.exists()
    assert not list(zig.rglob("o/*/libc.a"))


def forget_programs(checkout: Checkout) -> None:
    """Have no compiled program, but the libcs."""
    for entry in (checkout.root / ".cache/pause").iterdir():
        if len(entry.name) == 2:
            shutil.rmtree(entry)


def until_line(stream: IO[str], text: str) -> str:
    """The first line that has a text."""
    return next(line for line in stream if text in line)


def test_an_object_of_an_earlier_run_is_never_linked(checkout: Checkout) -> None:
    before = checkout("build")
    for path in (checkout.root / ".cache").rglob("*.o"):
        flip(path)
    forget_programs(checkout)
    (checkout.root / "bin/pause-amd64").unlink()
    after = checkout("build")
    assert "pause compiled" in after.stderr
    assert after.digests == before.digests


# --- the record ---


def used(cache: Cache, compiler: str, *writes: str) -> list[str]:
    """What is in the folder when a compiler gets it, and it adds files; or why it is empty."""
    found: list[str] = []

    async def use() -> None:
        async with proved(cache, "musl", compiler, lambda why: found.append(f"!{why}")) as folder:
            found.extend(sorted(path.name for path in folder.rglob("*") if path.is_file()))
            for name in writes:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(name.encode())

    asyncio.run(use())
    return found


def test_what_was_recorded_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "zig")
    assert used(cache, "zig 1", "o/1/libc.a", "h/1", "h/timestamp", "b/1/builtin.zig", "z/1") == ["!"]
    everything = ["1", "1", "builtin.zig", "libc.a", "timestamp"]
    assert used(cache, "zig 1", "h/timestamp", "z/2") == everything
    assert used(cache, "zig 1", "o/2/crt1.o") == sorted([*everything, "2"])
    assert "crt1.o" in used(cache, "zig 1")
    [why] = used(cache, "zig 2", "o/1/libc.a")
    assert why.endswith("not what zig 2 has made: removed; ")
    assert used(cache, "zig 2") == ["libc.a"]


def test_whatever_changes_is_seen(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "zig")
    home = cache.folder / "musl" / "cache"
    changes: list[Callable[[], object]] = [
        lambda: flip(home / "o/1/libc.a"),
        lambda: flip(home / "h/1"),
        (home / "h/1").unlink,
        lambda: (home / "h/1").rename(home / "h/2"),
        lambda: (home / "h/3").write_bytes(b""),
        lambda: shutil.rmtree(home),
    ]
    for change in changes:
        used(cache, "zig 1", "o/1/libc.a", "h/1")
        change()
        [why] = used(cache, "zig 1", "o/1/libc.a", "h/1")
        assert why.startswith("!")
        shutil.rmtree(cache.folder)


def test_a_compiler_that_was_stopped_leaves_nothing_to_link(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "zig")
    used(cache, "zig 1", "o/1/libc.a")

    async def stopped() -> None:
        async with proved(cache, "musl", "zig 1", lambda _: None) as folder:
            (folder / "o/1/crt1.o").write_bytes(b"half")
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())
    assert used(cache, "zig 1")[0].startswith("!")


def test_one_compilation_at_a_time(tmp_path: Path) -> None:
    cache, order = Cache(tmp_path / "zig"), list[str]()

    async def use(name: str) -> None:
        async with proved(cache, "musl", "zig 1", lambda _: None):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            order.append(f"{name} out")

    async def both() -> None:
        await asyncio.gather(use("a"), use("b"))

    asyncio.run(both())
    assert order in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])


# --- pause and a program with a libc in one run ---


def test_a_missing_header_says_how_to_link_a_libc(checkout: Checkout) -> None:
    checkout.edit("pause.c", "#include <string.h>\n", "#include <stdlib.h>\n#include <string.h>\n")
    message = checkout.refuses(1, "build")
    assert "stdlib.h" in message.splitlines()[1]
    advice = "stdlib.h is not in build/runtime/include: to link a libc, set libc: true in arches.yaml (or --libc)"
    assert message.rstrip().endswith(advice)


def test_libc_is_a_matter_of_the_image(checkout: Checkout) -> None:
    row = '\n  other:\n    tag: "1"\n    repository: "{registry}/other"\n'
    row += "    dockerfile: Dockerfile.j2\n    sources: [other.c]\n    libc: true\n"
    row += '    user: "1"\n    entrypoint: [/other]\n'
    checkout.edit("arches.yaml", "\ndefaults:\n", f"{row}\ndefaults:\n")
    with (checkout.root / ".dockerignore").open("a") as ignored:
        ignored.write("!other.c\n")
    (checkout.root / "other.c").write_text("#include <stdlib.h>\nint main(void) { exit(0); }\n")
    words = ("bake", "--arch", "arm", "--image", "pause", "--image", "other")
    checkout(*words, REGISTRY="registry.example")
    targets = json.loads((checkout.root / "docker-bake.json").read_text())["target"]
    assert "build/runtime" in targets["pause-arm"]["dockerfile-inline"]
    assert "build/runtime" not in targets["other-arm"]["dockerfile-inline"]
    assert "-nostdlib" not in targets["other-arm"]["dockerfile-inline"]
