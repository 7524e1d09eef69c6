"""Keys on the command line: what signs, and what proves.

Imports are inside the functions, as in `setup`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.cli import options as given
from build.cli.options import Options
from build.errors import UsageError

if TYPE_CHECKING:
    from build.attest.attach import Signing
    from build.attest.keys.keys import PublicKey
    from build.release.publish.destination import Destination
    from build.release.publish.statements import Run


def is_asked(options: Options) -> bool:
    """Whether the user asks for signatures."""
    return bool(
        options.flags.get("sign") or options.environment.get("SIGN_KEY") or options.flags.get("signature_format")
    )


def signing(options: Options) -> Signing | None:
    """The key of --sign (SIGN_KEY), and the forms of --signature-format; None if nothing is to be signed.

    Raises UsageError for what is no key, and for a format that there is not.
    """
    from build.attest.attach import FORMATS, Signing

    forms = options.one_of("signature_format", "both", FORMATS)
    text = options.flags.get("sign") or options.environment.get("SIGN_KEY")
    if not text:
        if options.flags.get("signature_format"):
            raise UsageError("--signature-format: nothing is signed\n  name the key with --sign")
        return None
    from build.attest.keys.keys import read_signer

    return Signing(read_signer(str(text), options.environment, _ask, options.root), forms)


def signed(options: Options, to: list[Destination], spool: Path) -> list[Destination]:
    """The destinations, with signatures if the user asks for that."""
    found = signing(options)
    if found is None:
        return to
    from build.release.publish.destination import Sign
    from build.release.publish.statements import signed_only

    return [replace(each, sign=Sign(found, signed_only, spool)) for each in to]


@asynccontextmanager
async def run(options: Options, task: str) -> AsyncIterator[Run]:
    """What is known of a run for its provenance. Raises UsageError for an engine that can't sign before the tags."""
    from build.attest.provenance import builder_of
    from build.config.arches import ENGINES
    from build.config.revision import read_checkout
    from build.release.publish.statements import Run

    engine = options.text("engine", given.settings(options).defaults.engine)
    if engine != "embedded":
        raise UsageError(
            f"--sign: the engine {engine} lets the daemon push, so that a tag would be there before its signature"
            "\n  use --engine embedded, or sign what is published: invoke sign REFERENCE --sign KEY"
        )
    environment = options.environment
    rev, epoch = options.text("rev", ""), environment.get("SOURCE_DATE_EPOCH")
    checkout = asyncio.create_task(read_checkout(options.root, environment))
    try:
        yield Run(
            task=task,
            engine=engine,
            compiler=options.text("compiler", ENGINES[engine]),
            builder=builder_of(environment),
            checkout=checkout,
            given={**({"REV": rev} if rev else {}), **({"SOURCE_DATE_EPOCH": epoch} if epoch else {})},
        )
    finally:
        checkout.cancel()
        await asyncio.gather(checkout, return_exceptions=True)  # until git has ended


def refuse(options: Options, archive: str) -> None:
    """Raise UsageError if what goes to an archive is to be signed; SIGN_KEY alone is for what can be signed."""
    if options.flags.get("sign"):
        raise UsageError(
            f"--sign: {archive!r} is an archive, which is written as a whole"
            "\n  sign where it is copied from (invoke sign REFERENCE), or where it is copied to"
        )


def public_key(options: Options) -> PublicKey | None:
    """The key of --key (VERIFY_KEY), or None; raise UsageError for what is no public key."""
    text = options.flags.get("key") or options.environment.get("VERIFY_KEY")
    if not text:
        return None
    from build.attest.keys.keys import read_public

    return read_public(str(text), options.environment, options.root)


def _ask(prompt: str) -> str:
    """A password from the terminal; raise UsageError if there is none."""
    import getpass

    if not sys.stdin or not sys.stdin.isatty():
        raise UsageError(f"{prompt.rstrip(': ')}: no terminal to ask on\n  set COSIGN_PASSWORD")
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise UsageError(f"{prompt.rstrip(': ')}: nothing was entered") from None
