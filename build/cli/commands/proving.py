"""The tasks that sign what is published, and that build it again from its provenance.

Imports are inside the functions, so that `invoke --list` loads none of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli import references, setup, signing, tools
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.release.publish.sign import Signed
    from build.release.rebuild.rebuild import Rebuilt


async def sign(options: Options) -> list[Signed]:
    """Sign what REFERENCE refers to."""
    from build.oci.reference import Reference, archive_file
    from build.release.reference.sign import sign
    from build.system import scratch

    reference = Reference.parse(str(options.flags["reference"]))
    if archive_file(reference.repository.host):
        raise UsageError(f"{str(reference)!r}: an archive is written as a whole\n  sign where it is copied from, or to")
    if not reference.wanted:
        raise UsageError(f"{str(reference)!r}: expected a tag or a digest: oci:FOLDER:TAG")
    found = signing.signing(options)
    if found is None:
        raise UsageError("expected a key\n  invoke sign REFERENCE --sign KEY, or SIGN_KEY=KEY")
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            place = store(str(reference.repository))
            return await sign(place, reference, found, options.report, folder, dry=options.dry)


async def rebuild(options: Options) -> list[Rebuilt]:
    """Build again what REFERENCE refers to, from the commit that its provenance names."""
    from build.oci.reference import Reference
    from build.release.rebuild.find import find
    from build.release.rebuild.rebuild import rebuild
    from build.system import scratch

    reference = Reference.parse(str(options.flags["reference"]))
    key = signing.public_key(options)
    with scratch(given.scratch_base(options)) as folder:
        async with setup.stores(options) as store:
            source = references.source(options, reference.repository, store)
            published = await find(source, reference, key, options.report, folder)
        parameters = published.recipe.parameters
        table = given.settings(options)
        arches = table.select(each for each in parameters.get("arches") or () if each in table.arches)
        compilers = []
        if "compiler" in parameters:
            chosen = replace(options, flags={**options.flags, "compiler": str(parameters["compiler"])})
            compiler = tools.compiler(chosen, "zig", tools.connection(options))
            compilers = [(compiler, arch) for arch in arches]
        rev = options.text("rev", "")
        return await rebuild(published, options.root, compilers, options.environment, options.report, folder, rev=rev)
