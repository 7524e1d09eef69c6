"""The tasks for what is published, by anyone: they compile nothing, and need no git.

Imports are inside the functions, so that they load while git runs, and `invoke --list` loads none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli import references, setup, signing
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.cli.nodes.settings import Setting
    from build.config.release import Release
    from build.oci.reference import Reference
    from build.release.publish.sign import AnyResult
    from build.release.reference.diff.diff import Difference
    from build.release.reference.tags import Tagged
    from build.report import Result


def _reference(options: Options, word: str = "reference") -> str:
    """The reference that is given instead of the release, if any; raise UsageError if flags select a release, too."""
    text = str(options.flags.get(word) or "")
    for flag in ("arch", "image", "registry", "tag"):
        if text and options.flags.get(flag):
            raise UsageError(f"--{flag} selects a part of the release, but {text!r} is a {word}\n  omit one")
    if text and options.flags.get("also_tag"):
        raise UsageError(f"--also-tag is for the release, but {text!r} is a {word}\n  omit one")
    return text


async def check(options: Options) -> list[AnyResult]:
    """Check a reference or the release; raise UsageError if options select both."""
    from build.oci.reference import Reference
    from build.release.check.check import check_reference, check_release
    from build.release.side_by_side import each_separately
    from build.system import scratch

    text, key = _reference(options), signing.public_key(options)
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            if text:
                reference = Reference.parse(text)
                source = references.source(options, reference.repository, store)
                return await check_reference(source, reference, options.report, folder, key)

            async def checked(releases: Sequence[Release]) -> list[AnyResult]:
                parts = {
                    each.registry: check_release(each, store(each.registry), options.report, folder, key)
                    for each in releases
                }
                return await each_separately("registries", parts, options.report)

            images = {releases[0].image.name: checked(releases) for releases in setup.releases(options)}
            return await each_separately("images", images, options.report)


async def copy(options: Options) -> list[AnyResult]:
    """Copy releases from SRC to DST, or what one reference refers to."""
    from build.oci.reference import archive_file, check_registry
    from build.release.archive import Destination
    from build.release.copy.contents import as_listed, contents, targets_of
    from build.release.copy.copy import copy
    from build.release.copy.pack import pack
    from build.system import scratch

    source, target = (str(options.flags[side]) for side in ("src", "dst"))
    referrers = not options.flags.get("without_referrers")
    if pair := references.both(options, source, target):
        return await _copy_reference(options, *pair)
    source, target = check_registry(source), check_registry(target)
    origins = [origin for origin, _ in setup.releases(options, [source, target])]
    file = archive_file(target)
    if file:
        signing.refuse(options, target)
        given.expect_folder(options, target, file)
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            origin = setup.source(options, source, store)
            if not options.any("image", "arch", "all_arch", "tag"):
                origins = await contents(origin, source, origins, given.settings(options))
            else:
                origins = as_listed(origin, origins)
            targets = targets_of(origins, target, given.settings(options))
            if file:
                overwrite = bool(options.flags.get("overwrite"))
                to = Destination(target, options.root / file, overwrite, options.dry, options.report)
                return [*await pack(origins, origin, targets, to, folder, referrers=referrers)]
            destinations = signing.signed(options, setup.destinations(options, targets, store), folder)
            results = await copy(origins, origin, destinations, folder, referrers=referrers)
            setup.remember(options, [target], on_disk_only=True)
            return results


async def _copy_reference(options: Options, source: Reference, target: Reference) -> list[AnyResult]:
    from build.oci.reference import Tag, archive_file
    from build.release import archive
    from build.release.reference.copy import Origin, copy, pack
    from build.system import scratch

    platforms = references.platforms(options)
    overwrite = bool(options.flags.get("overwrite"))
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            carried = not options.flags.get("without_referrers")
            origin = Origin(references.source(options, source.repository, store), source, platforms, carried)
            if file := archive_file(target.repository.host):
                signing.refuse(options, str(target))
                given.expect_folder(options, str(target), file)
                to = archive.Destination(str(target), options.root / file, overwrite, options.dry, options.report)
                return [await pack(origin, Tag(target.repository, target.tag), to, folder)]
            to_tag = replace(references.destination(options, target, store), signing=signing.signing(options))
            return await copy(origin, to_tag, folder)


async def tags(options: Options) -> list[Tagged]:
    """The tags of a repository, or of those of the image table."""
    from build.errors import PublishError, all_of
    from build.release.reference.tags import tags
    from build.report import Event
    from build.system import scratch

    if text := _reference(options, "repository"):
        repositories = [references.repository(text)]
    else:
        # TAG is for what publishes: every tag is listed.
        every = replace(options, environment={**options.environment, "TAG": ""})
        found = [each for releases in setup.releases(every) for each in releases]
        places = [tag for each in found for tag in (each.list_tag(), *map(each.arch_tag, each.arches))]
        repositories = list(dict.fromkeys(tag.repository for tag in places))
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            by_repository = await all_of(
                tags(references.source(options, each, store), each, options.report, folder) for each in repositories
            )
    if not any(by_repository):
        names = ", ".join(map(str, repositories))
        raise PublishError(f"{names}: found no tags, expected some\n  check the name, or publish there first")
    for repository, listed in zip(repositories, by_repository, strict=True):
        if not listed:
            options.report(Event(f"note: {repository}: no tags", note=True))
    return [each for listed in by_repository for each in listed]


async def retag(options: Options) -> list[Result]:
    """Let a tag refer to what REFERENCE refers to."""
    from build.oci.reference import Reference, archive_file, check_tag
    from build.release.reference.retag import retag
    from build.system import scratch

    reference, name = Reference.parse(str(options.flags["reference"])), check_tag(str(options.flags["tag_"]))
    if archive_file(reference.repository.host):
        raise UsageError(f"{str(reference)!r}: an archive is written as a whole\n  make another one: invoke copy")
    if not reference.wanted:
        raise UsageError(f"{str(reference)!r}: expected a tag or a digest: oci:FOLDER:TAG")
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            to = references.destination(options, replace(reference, tag=name), store)
            return [await retag(reference, to, folder)]


async def diff(options: Options) -> list[Difference]:
    """What changed between two references."""
    from build.errors import all_of
    from build.oci.reference import Reference
    from build.release.reference.diff.diff import diff
    from build.release.reference.diff.sides import Side, read_side
    from build.release.reference.fetch import Kept, settled
    from build.system import scratch

    sides = [Reference.parse(str(options.flags[side])) for side in ("old", "new")]
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:

            async def side(reference: Reference) -> Side:
                source = references.source(options, reference.repository, store)
                return await read_side(Kept(source, folder), await settled(source, reference), folder)

            old, new = await all_of(map(side, sides))
            return await diff(old, new, options.report)


async def use(options: Options) -> list[Setting]:
    """Settings for nodes; raise UsageError for several images or registries, because a node uses only one."""
    from build.cli.nodes.settings import settings, settings_of
    from build.cli.options import only
    from build.oci.reference import Reference

    key = signing.public_key(options)
    async with setup.stores(options) as store:
        if text := _reference(options):
            reference = Reference.parse(text)
            place = store(str(reference.repository))
            found = await settings_of(reference, place)
        else:
            images = setup.releases(options)
            only(releases[0].image for releases in images)
            release, *others = images[0]
            if others:
                raise UsageError(f"{len(others) + 1} registries, expected one\n  run it once for each registry")
            place = store(release.registry)
            found = await settings(release, place)
        if key is None:
            return found
        from build.cli.nodes.policy import policy

        return [*found, *await policy(Reference.parse(found[0].reference), place, key)]
