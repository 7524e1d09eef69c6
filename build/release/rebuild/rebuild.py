"""Compares what is published with what is built again from the commit in its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.compilers.compiler import Compiler
from build.config.arches import Arch
from build.config.revision import Revision, check_out, revision_of
from build.errors import ImageError
from build.release.rebuild.build import build
from build.release.rebuild.find import Published
from build.report import Event, Report


@dataclass(frozen=True)
class Rebuilt:
    """A result: what is published, what was built now, and why they differ, as far as that is known.

    The platform of the list is None.
    """

    name: str
    platform: str | None
    published: str
    rebuilt: str | None
    why: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether the digests are the same."""
        return self.published == self.rebuilt

    def __str__(self) -> str:
        what = f"{self.name}@{self.published}  {self.platform or 'manifest list'}"
        if self.is_same:
            return f"same     {what}"
        return f"differs  {what}  built {self.rebuilt or 'nothing'}"

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        return {
            "kind": "rebuilt",
            "reference": self.name,
            "platform": self.platform,
            "digest": self.published,
            "rebuilt": self.rebuilt,
            "same": self.is_same,
            "reasons": list(self.why),
        }


async def rebuild(
    published: Published,
    root: Path,
    compilers: Sequence[tuple[Compiler, Arch]],
    environment: Mapping[str, str],
    report: Report,
    scratch: Path,
    *,
    rev: str = "",
) -> list[Rebuilt]:
    """Build again what is published, and compare; with `rev`, that is the revision, instead of what git says now.

    `root` is a clone that has the commit, `compilers` those that build here, for each arch. Raises UsageError if it
    does not have it, and CompileError if it can't be built.
    """
    recipe = published.recipe
    checkout = scratch / "checkout"
    await check_out(root, recipe.commit, checkout, environment)
    given = {name: str(recipe.parameters.get(name) or "") for name in ("REV", "SOURCE_DATE_EPOCH")}
    now = await revision_of(root, recipe.commit, environment)
    epoch = given["SOURCE_DATE_EPOCH"]
    revision = Revision(rev or given["REV"] or now.name, int(epoch) if epoch.isdecimal() else now.time)
    report(Event(f"building commit {recipe.commit}, REV {revision.name}"))
    results = await build(recipe, checkout, revision, environment)
    why = [*_revision(published, revision), *await _tools(published, checkout, compilers), *_bases(published, results)]
    return _compared(published, results, tuple(why))


def refuse(results: Sequence[Rebuilt]) -> None:
    """Raise ImageError unless all digests are the same."""
    differing = [each for each in results if not each.is_same]
    if differing:
        reasons = dict.fromkeys(reason for each in differing for reason in each.why)
        raise ImageError("\n  ".join([f"{len(differing)} of {len(results)} digests differ", *reasons]))


def _compared(published: Published, results: Sequence[Mapping[str, Any]], why: tuple[str, ...]) -> list[Rebuilt]:
    name = str(published.reference.repository)
    images = {str(each["platform"]): str(each["digest"]) for each in results if each.get("platform")}
    unknown = why or ("nothing that its provenance names is different here",)

    def compared(platform: str | None, digest: str, found: str | None) -> Rebuilt:
        return Rebuilt(name, platform, digest, found, () if found == digest else unknown)

    found = [compared(platform, digest, images.get(platform)) for platform, digest in published.images.items()]
    lists = [str(each["digest"]) for each in results if each.get("kind") == "list"]
    # Without a list among the results, it follows from its images.
    same = published.digest if all(each.is_same for each in found) else None
    return [compared(None, published.digest, lists[0] if lists else same), *found]


def _revision(published: Published, revision: Revision) -> Iterable[str]:
    before = str(published.recipe.versions.get("REV"))
    if before != revision.name:
        yield (
            f"REV: was {before}, is {revision.name}: a tag that came later names the commit"
            f"\n  build it with the former one: --rev {before}"
        )
    time = published.recipe.versions.get("SOURCE_DATE_EPOCH")
    if time != revision.time:
        yield f"SOURCE_DATE_EPOCH: was {time}, is {revision.time}"


async def _tools(published: Published, checkout: Path, compilers: Sequence[tuple[Compiler, Arch]]) -> list[str]:
    before = published.recipe.tools
    found = [await compiler.tool(checkout, arch) for compiler, arch in compilers]
    return [
        f"compiler: was {each.name} {before.get(each.name, 'not used')}, is {each.version}"
        for each in dict.fromkeys(found)
        if before.get(each.name) != each.version
    ]


def _bases(published: Published, results: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    bases = {str(each["base"]["reference"]): str(each["base"]["digest"]) for each in results if each.get("base")}
    for name, digest in bases.items():
        before = published.recipe.bases.get(f"docker://{name}")
        if before not in (None, digest.removeprefix("sha256:")):
            yield f"base {name}: was sha256:{before}, is {digest}"
