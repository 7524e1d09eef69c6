"""The images of a release on the docker engine: in the daemon, and from there in a registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from build.cache.cache import key_of
from build.cache.inputs import changes, remember, remembered
from build.compilers import elf
from build.compilers.binary import Binary
from build.config.arches import Arch
from build.daemon.images import Context, build_image, checked_image, name_image, push_image, pushed_before
from build.engines.embedded import ingredients, rendered
from build.errors import BuildError, PublishError
from build.report import DONE, IMAGE, PUSH
from build.oci.descriptor import digest_of
from build.release.build import Binaries, binary_path, image_plan, leave_binary, loadable_name
from build.release.crew import side_by_side
from build.release.publish import refuse, survey
from build.release.release import Daemon, Made, Release, Workshop, why_a_tag
from build.release.senders import Senders
from build.stores.store import Sink, Tag


def build_images(shop: Workshop, daemon: Daemon, found: Binaries) -> list[Made]:
    """The image of every arch in the daemon, under the name that it is published as; what is there is not built again.

    Raises CompileError, ElfError, ImageError, or BuildError for what the daemon refuses.
    """
    program = shop.program()

    def build(arch: Arch) -> Made:
        binary = found[arch].result()  # the daemon builds one arch while the compiler is at the next
        shop.release.tell(arch, IMAGE)
        elf.check(binary.read(), arch.elf, binary_path(program.name, arch))
        leave_binary(shop, program, arch, binary)
        made = _image(shop, daemon, arch, binary)
        if made.digest and not shop.release.dry:
            for release in shop.releases[1:]:
                name_image(daemon.client(), made.digest, release.arch_tag(arch))
        return made

    with ThreadPoolExecutor(len(found)) as pool:
        return side_by_side(pool, build, found)


def push_images(release: Release, daemon: Daemon, sink: Sink, senders: Senders, built: Sequence[Made]) -> list[Made]:
    """The tag of every arch, to the image that was `built`, by the daemon. First all are found to be free or ours.

    The daemon moves a tag as it pushes, so what has to hold before tags move has to hold before that.

    Raises PublishError for a tag that is not to be moved, or if the registry ends up with another digest.
    """
    tags = {release.arch_tag(arch): arch for arch in release.arches}
    held = senders.run(survey(sink, tags))
    there = [tag for tag, image in zip(tags, built, strict=True) if held[tag] and image.digest]  # or yet to be built
    same = {tag for tag in there if pushed_before(daemon.client(), tag, held[tag])}
    if not release.order.overwrite:
        moved = [tag for tag in tags if held[tag] and tag not in same]
        refuse(dict.fromkeys(moved, "nothing, or what this daemon pushed"), held)

    if len(same) < len(tags) and not release.dry:
        release.order.before_tags()

    def push(tag: Tag) -> Made:
        platform = str(tags[tag].platform)
        if tag in same:
            return Made(str(tag), held[tag], platform, "kept")
        change = "moved" if held[tag] else "pushed"
        if release.dry:
            return Made(str(tag), None, platform, change, why_a_tag(tag, held[tag], change))
        release.tell(tags[tag], PUSH)
        digest = push_image(daemon.client(), tag, daemon.login(tag.repository.host), release.report)
        told = senders.run(sink.digest(tag.repository, tag.name))
        if told != digest:
            raise PublishError(f"{tag}: the registry has {told}, expected {digest}, which the daemon says it pushed")
        release.tell(tags[tag], DONE)
        return Made(str(tag), digest, platform, change, why_a_tag(tag, held[tag], change))

    with ThreadPoolExecutor(len(tags)) as pool:
        return side_by_side(pool, push, tags)


def _image(shop: Workshop, daemon: Daemon, arch: Arch, binary: Binary) -> Made:
    release, client = shop.release, daemon.client()
    name = f"{loadable_name(shop, arch)}:{release.tag}"
    context = _context(shop, arch, binary.read())
    entry = key_of("daemon", context.packed(), name, str(arch.platform))
    known = shop.cache.get(entry)
    if known is not None:
        try:
            if checked_image(client, name, arch.platform, None) == known.decode():
                release.tell(arch, DONE, f"{name} is unchanged")
                return Made(name, known.decode(), str(arch.platform), "kept")
        except BuildError:
            pass  # removed from the daemon, or replaced there: it is built again
    used = {path: digest_of(data) for path, data in context.files.items()}
    now = ingredients(image_plan(shop, arch), binary, shop.cache, ()).and_files(used)
    why = changes(remembered(shop.cache, name), now) or ("not in the daemon",)
    if release.dry:
        return Made(name, None, str(arch.platform), "made", why)
    image_id = build_image(client, context, name, arch.platform)
    shop.cache.put(entry, image_id.encode())
    remember(shop.cache, name, now)
    release.tell(arch, DONE, f"{name} is built")
    return Made(name, image_id, str(arch.platform), "made", why)


def _context(shop: Workshop, arch: Arch, binary: bytes) -> Context:
    plan = image_plan(shop, arch)
    return Context(rendered(plan), {**allowed(shop.root), plan.binary_path: binary}, shop.revision.time)


def allowed(root: Path) -> Mapping[str, bytes]:
    """The files that .dockerignore lets into the build: as with `docker build .`, it decides."""
    from docker.utils.build import exclude_paths

    try:
        patterns = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        patterns = [".git", ".venv", ".cache", "dist"]
    kept = [pattern for line in patterns if (pattern := line.strip()) and not pattern.startswith("#")]
    return {path: (root / path).read_bytes() for path in exclude_paths(str(root), kept) if (root / path).is_file()}
