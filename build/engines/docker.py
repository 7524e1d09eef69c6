"""The docker engine: images are built, tagged and pushed by the daemon, through docker-py's classic builder.

On Docker's containerd image store that builder drops the variant of a platform (moby#47823) and mixes media types, and
BuildKit needs a session, which docker-py can't hold. There, images are assembled here and loaded.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from build.cache.cache import Cache, key_of
from build.cache.inputs import changes, remember, remembered
from build.compilers.binary import Binary
from build.daemon.client import Daemon
from build.daemon.ignore import allowed
from build.daemon.images import (
    build_image,
    checked_image,
    has_containerd_store,
    load_image,
    push_image,
    saved_image,
    tag_image,
    was_pushed,
)
from build.engines.engine import Built, Pull
from build.engines.published import fetch_image
from build.engines.startable import check_assembled, check_binary, check_saved
from build.errors import BuildError, ImageError, PublishError, UsageError, all_of
from build.image.assemble import SCRATCH, assemble, base_of, image_inputs, plain_base, rendered
from build.image.dockerfile.context import mode_of
from build.image.spec import Spec
from build.oci.descriptor import digest_of
from build.oci.image import Image
from build.oci.media_types import Format
from build.oci.platform import Platform
from build.oci.reference import ARCHIVE, Repository, Tag
from build.oci.tar import File, tar
from build.report import DONE, Event, Report, Result
from build.stores.archive.write import Entry, write_archive_file
from build.stores.registry.credentials import Credentials
from build.stores.store import SMALL, Store
from build.system import write_whole

if TYPE_CHECKING:
    from build.engines.bases import Bases


@dataclass(frozen=True)
class DockerEngine:
    """Builds and pushes images in a daemon. In a `dry` run nothing is built or pushed.

    `spool` is for large layers of images that are fetched, and has to outlive them. `bases` are for images that are
    assembled here; otherwise the daemon finds bases as `docker build` does, and `pull` is what the user asks of it.
    """

    connect: Callable[[], Awaitable[Daemon]]
    bases: Callable[[], Bases]
    pull: Pull | None
    credentials: Callable[[Repository], Awaitable[Credentials | None]]
    cache: Cache
    spool: Path
    report: Report
    dry: bool

    def accept(self, tag: Tag, form: Format) -> None:  # noqa: ARG002
        """Daemons push only to registries: raise UsageError for a layout."""
        if tag.repository.on_disk:
            raise UsageError(
                f"{tag}: found a folder, expected a registry: a daemon pushes only to registries"
                "\n  name one, for example REGISTRY=localhost:5000; or write the folder with --engine embedded"
            )

    def expect(self, store: Store, repository: Repository) -> None:
        """The daemon pushes by itself."""

    def annotates(self, form: Format) -> bool:  # noqa: ARG002
        """The classic builder makes none."""
        return False

    async def prepare(self, specs: Sequence[Spec]) -> None:
        """See `Engine`. Where the daemon builds, it finds the bases by itself, unless nothing may be pulled."""
        if names := [spec.arch.name for spec in specs if spec.arch.platform.is_windows]:
            raise ImageError(
                f"{', '.join(names)}: a daemon on Linux can't build images for Windows\n  use --engine embedded"
            )
        based = [spec for spec in specs if plain_base(spec) != SCRATCH]
        if based and await has_containerd_store(await self.connect()):
            await self.bases().prepare(based)
            return
        for name in dict.fromkeys(name for spec in based for name in _parents(rendered(spec))):
            if name.startswith(("oci:", ARCHIVE)):
                raise ImageError(f"FROM {name}: a daemon finds bases in registries only\n  use --engine embedded")
            if self.pull is Pull.NEVER and await (await self.connect()).inspect(name) is None:
                raise ImageError(f"FROM {name}: not in the daemon\n  docker pull {name}, or omit --pull never")

    async def make(self, spec: Spec, binary: Binary) -> Built:
        """Build the image in the daemon under all its names, unless it is there. Raises ElfError or ImageError."""
        check_binary(binary.data, spec)
        daemon = await self.connect()
        if await has_containerd_store(daemon):
            return await self._load(daemon, spec, binary)
        name, arch, platform = spec.names[0], spec.arch.name, str(spec.arch.platform)
        files = {**allowed(spec.root), spec.binary_path: binary.data}
        dockerfile = rendered(spec)
        context = packed_context(spec, dockerfile, files)
        entry = key_of("daemon", context, name, platform)
        pulls = self.pull is Pull.ALWAYS and bool(_parents(dockerfile))
        known = None if pulls else self.cache.get(entry)
        if known is not None and await _is_unchanged(daemon, name, spec.arch.platform, known.decode()):
            result = Result(name, known.decode(), platform, "kept", arch=arch)
            self._done(spec, f"{name}: unchanged")
        else:
            used = {path: digest_of(data) for path, data in files.items()}
            now = image_inputs(spec, binary.digest, self.cache, ()).and_files(used)
            otherwise = "--pull always: its base may have changed" if pulls else "not in the daemon"
            why = changes(remembered(self.cache, name), now) or (otherwise,)
            if self.dry:
                return Built(spec, binary, Result(name, None, platform, "made", why, arch))
            image_id = await build_image(daemon, context, name, spec.arch.platform, pull=pulls)
            archive, of_base = await saved_image(daemon, image_id), await _layers_of_base(daemon, dockerfile)
            await asyncio.to_thread(check_saved, archive, of_base, spec, binary.data)
            self.cache.put(entry, image_id.encode())
            remember(self.cache, name, now)
            result = Result(name, image_id, platform, "made", why, arch)
            self._done(spec, f"{name}: built")
        if not self.dry:
            await all_of(tag_image(daemon, str(result.digest), other) for other in spec.names[1:])
        return Built(spec, binary, result)

    async def _load(self, daemon: Daemon, spec: Spec, binary: Binary) -> Built:
        """Assemble the image and load it under all its names, unless it is there. Raises ImageError."""
        base = await self.bases().of(spec) if base_of(spec) else None
        check = partial(check_assembled, spec, binary=binary.data, base=base)
        work = partial(assemble, spec, binary.data, binary.digest, self.cache, check, base)
        image = await asyncio.to_thread(work) if base or len(binary.data) > SMALL else work()
        name, arch, platform = spec.names[0], spec.arch.name, spec.arch.platform
        origin = image.origin.fields() if image.origin else None
        unchanged = [await _is_unchanged(daemon, each, platform, image.digest) for each in spec.names]
        if all(unchanged):
            self._done(spec, f"{name}: unchanged")
            return Built(spec, binary, Result(name, image.digest, str(platform), "kept", arch=arch, base=origin), image)
        now = image_inputs(spec, binary.digest, self.cache, (), image.origin)
        why = changes(remembered(self.cache, name), now) or ("not in the daemon",)
        if not self.dry:
            entries = [Entry(image, each, each.rpartition(":")[2]) for each in spec.names]
            packed = self.spool / os.urandom(8).hex()
            await asyncio.to_thread(write_archive_file, packed, entries, spec.revision.time)
            await load_image(daemon, packed, name)
            for each in spec.names:
                await checked_image(daemon, each, platform, image.digest)
            remember(self.cache, name, now)
            self._done(spec, f"{name}: built")
        return Built(spec, binary, Result(name, image.digest, str(platform), "made", why, arch, base=origin), image)

    async def export(self, built: Built) -> Result:
        """The image is in the daemon already."""
        return built.result

    async def archive(self, built: Built, name: str, file: Path) -> None:
        """The image as `docker save` writes it, without a name; if it was assembled here, with `name` (NAME:TAG)."""
        if built.image:
            entries = [Entry(built.image, name, name.rpartition(":")[2])]
            await asyncio.to_thread(write_archive_file, file, entries, built.spec.revision.time)
            return
        if built.result.digest is None:
            raise BuildError(f"{built.result.name}: the daemon has yet to build it")
        write_whole(file, await saved_image(await self.connect(), built.result.digest))

    async def target(self, built: Built, tag: Tag, store: Store, held: str | None) -> Image | None:
        """What the registry has, if this daemon pushed it; otherwise only the next push will tell."""
        if built.image:
            return built.image if built.image.digest == held else None
        if held and built.result.digest and await was_pushed(await self.connect(), tag, held):
            return await fetch_image(store, tag, built.spec.arch, self.spool, held)
        return None

    async def publish(self, built: Built, tag: Tag, store: Store, current: str | None) -> Image:
        """Push the image, and verify what the registry has then."""
        daemon, credentials = await self.connect(), await self.credentials(tag.repository)
        digest = await push_image(daemon, tag, credentials, self.report)
        found = await store.settled_digest(tag.repository, tag.name, digest, current)
        if found != digest:
            raise PublishError(f"{tag}: the registry has {found}, expected {digest}, which the daemon says it pushed")
        return await fetch_image(store, tag, built.spec.arch, self.spool, digest)

    def _done(self, spec: Spec, text: str) -> None:
        self.report(Event(text, spec.settings.name, spec.arch.name, DONE))


def _parents(dockerfile: str) -> list[str]:
    """The images that FROM names, without stages."""
    from dockerfile_parse import DockerfileParser

    parsed = DockerfileParser(fileobj=BytesIO(dockerfile.encode()))
    stages = re.findall(r"(?im)^\s*FROM\s.*\sAS\s+(\S+)\s*$", dockerfile)
    return [each for each in parsed.parent_images if each not in (SCRATCH, *stages)]


async def _layers_of_base(daemon: Daemon, dockerfile: str) -> int:
    """How many layers the image has that the last stage begins with."""
    from dockerfile_parse import DockerfileParser

    base = DockerfileParser(fileobj=BytesIO(dockerfile.encode())).baseimage
    found = await daemon.inspect(base) if base and base != "scratch" else None
    return len(found["RootFS"].get("Layers") or ()) if found else 0


async def _is_unchanged(daemon: Daemon, name: str, platform: Platform, image_id: str) -> bool:
    try:
        return await checked_image(daemon, name, platform, None) == image_id
    except BuildError:
        return False  # removed from the daemon, or replaced there: it is built again


def packed_context(spec: Spec, dockerfile: str, files: Mapping[str, bytes]) -> bytes:
    """The build context for the daemon. The builder copies modes with it, so they are those of the embedded engine."""
    members = [
        File(f"/{path}", 0o755 if path == spec.binary_path else mode_of(spec.root / path), data)
        for path, data in files.items()
    ]
    return tar([*members, File("/Dockerfile", 0o644, dockerfile.encode())], spec.revision.time)
