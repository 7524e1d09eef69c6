"""References on the command line: told apart from registries, and opened.

A reference has a tag or a digest, and a registry, a layout's folder or an archive's file has none: so `copy` knows what
is meant. Imports are inside the functions, as in `setup`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli import setup
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.oci.platform import Platform
    from build.oci.reference import Reference, Repository
    from build.release.reference.destination import Destination
    from build.stores.store import Source

_FORMS = """
  a release: copy REGISTRY REGISTRY, each HOST[:PORT][/PATH], oci:FOLDER or oci-archive:FILE
  a list or an image: copy REFERENCE REFERENCE, each HOST[:PORT]/NAME:TAG, oci:FOLDER:TAG or
    oci-archive:FILE[:NAME:TAG]"""


def both(options: Options, source: str, target: str) -> tuple[Reference, Reference] | None:
    """SRC and DST of `copy`, if they are references; None if they are registries, and a release is meant.

    An archive without an entry goes with either: as SRC it is its only entry, as DST it gets the name of SRC. Raises
    UsageError for one of each, for flags of the other form, and for a DST without a tag.
    """
    from build.oci.reference import ARCHIVE, NAME, Reference, Repository, check_tag, is_reference

    found = [is_reference(each) for each in (source, target)]
    if not any(found):
        if options.flags.get("platform"):
            raise UsageError(f"--platform takes a part of a list, but {source!r} has no tag and no digest{_FORMS}")
        return None
    for flag in ("arch", "image", "tag"):
        if options.flags.get(flag):
            raise UsageError(f"--{flag} selects a part of a release, but SRC or DST is a reference{_FORMS}")
    if options.flags.get("also_tag"):
        raise UsageError(f"--also-tag is for a release, but SRC or DST is a reference{_FORMS}")
    for text, is_one in zip((source, target), found, strict=True):
        if not is_one and not text.startswith(ARCHIVE):
            other = target if text is source else source
            alike = f"found the reference {other!r}, and {text!r} without a tag, expected both alike"
            raise UsageError(f"{alike}{_FORMS}")
    origin, to = Reference.parse(source), Reference.parse(target)
    if to.digest:
        raise UsageError(f"{target!r}: found a digest, expected a tag only: DST gets the digest of SRC")
    if not target.startswith(ARCHIVE):
        return origin, Reference(to.repository, check_tag(to.tag))
    name, tag = to.repository.name, to.tag
    if not to.tag:
        name, tag = origin.repository.name.rstrip("/").rpartition("/")[2], origin.tag
    short = name.rpartition("/")[2] if ":" in name else name  # HOST:PORT/NAME
    if not (NAME.fullmatch(short) and tag):
        raise UsageError(f"{target!r}: found no name for the entry, expected {target.partition(':')[0]}:FILE:NAME:TAG")
    return origin, Reference(Repository(to.repository.host, name), check_tag(tag))


def repository(text: str) -> Repository:
    """The repository `HOST[:PORT]/NAME`, `oci:FOLDER` or `oci-archive:FILE[:NAME]`; raise UsageError for others."""
    from build.oci.reference import ARCHIVE, Repository, check_registry, is_reference

    file, _, name = text.removeprefix(ARCHIVE).partition(":")
    is_archive = text.startswith(ARCHIVE)
    if "@" in text or (":" in name.rpartition("/")[2] if is_archive else is_reference(text)):
        raise UsageError(
            f"{text!r}: expected a repository, without a tag or digest"
            "\n  HOST[:PORT]/NAME, oci:FOLDER or oci-archive:FILE[:NAME]"
        )
    if is_archive:
        return Repository(check_registry(ARCHIVE + file), name)
    return Repository.parse(text.rstrip("/"))


def platforms(options: Options) -> tuple[Platform, ...]:
    """The values of --platform; raise UsageError for what is not a platform."""
    from build.oci.platform import Platform

    found = []
    for text in options.flags.get("platform") or ():
        try:
            found.append(Platform.parse(text))
        except ValueError:
            raise UsageError(f"--platform {text!r}: expected os/architecture[/variant], such as linux/arm/v7") from None
    return tuple(dict.fromkeys(found))


def source(options: Options, place: Repository, stores: setup.Stores) -> Source:
    """Where a repository is read."""
    return setup.source(options, place.host if "oci-archive:" in place.host else str(place), stores)


def destination(options: Options, target: Reference, stores: setup.Stores) -> Destination:
    """The tag to write in a registry or a layout; raise UsageError for a folder that is refused."""
    from build.oci.reference import Tag
    from build.release.reference.destination import Destination

    if target.repository.on_disk:
        given.expect_folder(options, str(target.repository), target.repository.name)
    overwrite = bool(options.flags.get("overwrite"))
    tag = Tag(target.repository, target.tag)
    return Destination(stores(str(target.repository)), tag, options.report, overwrite=overwrite, dry=options.dry)
