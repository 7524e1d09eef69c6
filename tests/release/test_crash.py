"""Killed at any point, `all-push` leaves each tag absent, old or complete, every file whole, and can be rerun."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkout import REPOSITORIES, Checkout, Run, Snapshot, ended
from tests.support.pidns import until
from tests.support.reading import Read, complete, layout_reader, layout_tags
from tests.support.registries import Recorder, recording, registry, registry_reader, registry_tags

OLD = "the-old-one"

Files = dict[str, bytes]


@dataclass
class Scene:
    """A checkout that publishes in `registry`, and what comes of it there with the old revision and the new."""

    checkout: Checkout
    registry: str
    old: Run
    new: Run
    files: tuple[Files, Files]
    kept: Path
    pristine: Snapshot
    duration: float
    requests: int

    def forget(self, from_old: bool) -> None:
        """Nothing is made yet; or only what the old revision made."""
        self.checkout.forget()
        if from_old:
            shutil.copytree(self.kept, self.checkout.root, dirs_exist_ok=True)

    def start(self) -> subprocess.Popen[str]:
        return self.checkout.start("all-push", "--overwrite", REGISTRY=self.registry)

    def check_files(self) -> None:
        """Each file in bin that bears a name of its own is the old one or the new one."""
        for name, data in files(self.checkout).items():
            assert data in [each[name] for each in self.files]
            if name.endswith(".tar"):
                with tarfile.open(self.checkout.root / "bin" / name) as tape:
                    assert all(file.read() for member in tape if (file := tape.extractfile(member)))

    def check_tags(self, tags: dict[str, str], reader: Callable[[str], Read], from_old: bool) -> None:
        """Each tag is the old one or the new one, and all that it leads to is there."""
        assert not from_old or set(tags) == set(REPOSITORIES)
        for repository, published in tags.items():
            name = f"{self.registry}/{repository}:3.1"
            assert published in (self.new.digests[name], *([self.old.digests[name]] if from_old else []))
            complete(reader(repository), published)

    def check_next_run(self) -> None:
        """Running it again finishes the work."""
        again = self.checkout("all-push", "--overwrite", REGISTRY=self.registry)
        assert again.stdout == self.new.stdout
        assert files(self.checkout) == self.files[1]


def files(checkout: Checkout) -> Files:
    """What is in bin, but for temporary files."""
    folder = checkout.root / "bin"
    found = folder.iterdir() if folder.exists() else ()
    return {path.name: path.read_bytes() for path in found if not path.name.startswith(".")}


def scene(checkout: Checkout, name: str, new_place: Callable[[], None], recorder: Recorder | None = None) -> Scene:
    """Publish the old revision in `name`, then the new one in a `new_place`."""
    pristine = checkout.snapshot()
    old = checkout("all-push", REGISTRY=name, REV=OLD)
    old_files = files(checkout)
    kept = checkout.side / "kept"
    for folder in ("bin", "dist"):
        if (checkout.root / folder).exists():
            shutil.copytree(checkout.root / folder, kept / folder)
    checkout.forget()
    new_place()
    began = time.monotonic()
    new = checkout("all-push", REGISTRY=name)
    duration = time.monotonic() - began
    requests = len(recorder.exchanges) if recorder else 0
    return Scene(checkout, name, old, new, (old_files, files(checkout)), kept, pristine, duration, requests)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def kill_after(process: subprocess.Popen[str], delay: float) -> None:
    """Kill it when it has run for so long, unless it has ended."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    kill(process)
    ended(process)


@dataclass
class Shop:
    """A scene in a registry, which can be replaced behind the recorder."""

    scene: Scene
    recorder: Recorder
    storage: Path

    @contextmanager
    def opened(self, folder: Path, from_old: bool) -> Iterator[None]:
        if from_old:
            shutil.copytree(self.storage, folder / "storage")
        with registry(folder) as self.recorder.upstream:
            self.recorder.forget()
            yield

    def tags(self) -> dict[str, str]:
        return registry_tags(self.recorder.upstream)

    def reader(self, repository: str) -> Read:
        return registry_reader(self.recorder.upstream, repository)


@pytest.fixture(scope="module")
def shop(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    checkout = Checkout.clone(source.root, folder / "checkout")
    with recording() as recorder, ExitStack() as stack:
        recorder.upstream = stack.enter_context(registry(folder / "old"))

        def new_place() -> None:
            recorder.upstream = stack.enter_context(registry(folder / "new"))
            recorder.forget()

        yield Shop(scene(checkout, recorder.host, new_place, recorder), recorder, folder / "old" / "storage")


@pytest.mark.parametrize("seed", range(5))
def test_killed_while_it_publishes_in_a_registry(shop: Shop, tmp_path: Path, seed: int) -> None:
    """Four times a seed: at any time, or upon any request; in an empty registry, or over an old release."""
    chance = random.Random(seed)
    for number in range(4):
        from_old = number % 2 == 1
        shop.scene.forget(from_old)
        with shop.opened(tmp_path / str(number), from_old):
            if number < 2:
                kill_after(shop.scene.start(), chance.uniform(0, shop.scene.duration))
            else:
                last = chance.randint(1, shop.scene.requests)
                kill_upon(shop.recorder, last, shop.scene.start)
            until("all requests are answered", lambda: shop.recorder.idle)
            shop.scene.check_files()
            shop.scene.check_tags(shop.tags(), shop.reader, from_old)
            shop.scene.check_next_run()
            assert set(shop.tags()) == set(REPOSITORIES)
            shop.scene.check_tags(shop.tags(), shop.reader, from_old=False)


def kill_upon(recorder: Recorder, last: int, start: Callable[[], subprocess.Popen[str]]) -> None:
    """Kill what `start` starts when its request number `last` comes."""
    process = start()
    recorder.on_request = lambda number: kill(process) if number == last else None
    try:
        ended(process)
    finally:
        recorder.on_request = lambda _: None


@pytest.fixture(scope="module")
def layout(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    checkout = Checkout.clone(source.root, tmp_path_factory.mktemp("layout") / "checkout")
    return scene(checkout, "oci:dist", lambda: None)


@pytest.mark.parametrize("seed", range(2))
def test_killed_while_it_writes_a_layout(layout: Scene, seed: int) -> None:
    """Every other time cleaned up: nothing that the killed run left stays then."""
    chance = random.Random(seed)
    dist = layout.checkout.root / "dist"
    for number in range(4):
        from_old = number > 1
        layout.forget(from_old)
        kill_after(layout.start(), chance.uniform(0.4, 1) * layout.duration)
        layout.check_files()
        tags = {name: found["3.1"] for name in REPOSITORIES if (found := layout_tags(dist / name))}
        layout.check_tags(tags, lambda name: layout_reader(dist / name), from_old)
        if number % 2:
            layout.checkout("clean")
            assert layout.checkout.snapshot() == layout.pristine
        layout.check_next_run()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_incomplete(shop: Shop, tmp_path: Path, signal_: signal.Signals) -> None:
    """Ctrl-C, or a CI system that gives up: no temporary file stays."""
    shop.scene.forget(from_old=False)
    with shop.opened(tmp_path / "registry", from_old=False):
        process = shop.scene.start()
        shop.recorder.on_request = lambda number: os.killpg(process.pid, signal_) if number == 20 else None
        try:
            run = ended(process)
        finally:
            shop.recorder.on_request = lambda _: None
        assert run.code != 0
        assert run.stdout == ""
        assert "Traceback" not in run.stderr
        left = [path for path in shop.scene.checkout.root.rglob("*.tmp") if ".cache/pause/zig" not in str(path)]
        assert left == []
        shop.scene.check_tags(shop.tags(), shop.reader, from_old=False)
        shop.scene.check_next_run()
