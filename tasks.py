"""The Invoke tasks: flags and environment in, one pipeline call, errors out."""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

# Invoke turns off bytecode files, and would have these modules compiled anew each time. Users who want none are heeded.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

from build.command_line import allow
from build.errors import BuildError, UsageError
from build.options import Options
from build.workshop import checked, cleaned, copied, making, releasing, toolchain, using, verified

# A task lives for a second: collecting garbage while modules load, and once more at the end, would take a fifth of it.
gc.disable()
atexit.register(gc.freeze)

if TYPE_CHECKING:
    from build.cleaning import Removed
    from build.release import Made
    from build.usage import Setting
    from build.verdicts import Verdict

    Results = Sequence[Made | Removed | Setting] | Sequence[Verdict]

ROOT = Path(__file__).resolve().parent

# A flag beats the environment variable in brackets, which beats arches.yaml.
FLAGS: Mapping[str, tuple[Any, str]] = {
    "src": (None, "where the release is: as --registry, or oci-archive:FILE"),
    "dst": (None, "where it goes: as --registry, or oci-archive:FILE"),
    "arch": ([], "a row of the arch table; repeat it for several, or say all [ARCH; for all: ALL_ARCH]"),
    "image": (None, "a row of the image table [IMAGE]"),
    "registry": ([], "where images go: HOST[:PORT][/PATH] or oci:FOLDER; repeat it for several [REGISTRY]"),
    "insecure_registry": ([], "a HOST[:PORT] to be spoken to in plain HTTP, or with a certificate that proves nothing"),
    "timeout": (None, "seconds that all exchanges with registries may take, waits included [TIMEOUT]"),
    "tag": (None, "the images' tag [TAG]"),
    "rev": (None, "the revision that VERSION ends with, in place of git's [REV]"),
    "cflags": (None, "compiler flags [CFLAGS]"),
    "engine": (None, "who makes images: embedded or docker [ENGINE]"),
    "compiler": (None, "zig, kube-cross or host, in place of the engine's own [COMPILER]"),
    "libc": (False, "link the compiler's libc in place of build/runtime"),
    "kube_cross_image": (None, "the toolchain image's name [KUBE_CROSS_IMAGE]"),
    "kube_cross_version": (None, "the toolchain image's tag [KUBE_CROSS_VERSION]"),
    "format": (None, "media types: oci or docker [FORMAT]"),
    "overwrite": (False, "move a tag that exists with another digest"),
    "reference": (None, "HOST[:PORT]/NAME[:TAG][@sha256:…] or oci:FOLDER[:TAG][@sha256:…], in place of the release"),
    "verify": (False, "run every arch as pods run it, before the first tag moves"),
    "with_": (None, "who runs it: namespaces (the default), docker or podman"),
    "allow_not_run": (False, "let an arch pass that can't be run here"),
    "json": (False, "print the result as one JSON document"),
    "quiet": (False, "say nothing but what is wrong"),
    "verbose": (False, "say every command and every HTTP exchange, a line each, without their secrets"),
}
TOOLCHAIN = ("kube_cross_image", "kube_cross_version", "json")
COMPILE = ("arch", "image", "tag", "rev", "cflags", "engine", "compiler", "libc", *TOOLCHAIN)
ASSEMBLE = (*COMPILE, "registry", "format")
REMOTE = ("registry", "insecure_registry", "timeout")
RUN = ("with_", "allow_not_run")
PUBLISH = (*ASSEMBLE, *REMOTE[1:], "overwrite", "verify", *RUN)
TELLING = ("quiet", "verbose")
POSITIONAL = ("src", "dst", "reference")


def _command(
    *flags: str, default: bool = False, show: Callable[..., None] | None = None
) -> Callable[[Callable[[Options], Results]], Any]:
    """Make an Invoke task of a story, which takes options and returns what it made."""

    def decorate(story: Callable[[Options], Results]) -> Any:
        name = story.__name__.replace("_", "-")

        def body(c: Context, **given: Any) -> None:
            from build.progress import to, watching

            quiet, verbose = (bool(given.get(flag)) for flag in TELLING)
            try:
                with watching(sys.stderr, os.environ, quiet, verbose) as report:
                    options = Options(ROOT, given, os.environ, c.config.run.dry, report)
                    made = story(options)
                (show or _show)(name, made, options)
                return
            except UsageError as error:
                code, words = 2, str(error)
            except BuildError as error:
                code, words = 1, str(error)
            except OSError as error:
                code, words = 1, f"{error.filename or 'system'}: {error.strerror or error}"
            except KeyboardInterrupt:
                code, words = 130, "interrupted"
            to(sys.stderr)(f"{name}: {words}")  # Invoke's own way ends in a traceback where nobody reads
            raise Exit(code=code)

        # Invoke copies the flags of every task at each start; only of a task that is named will any be asked for.
        wanted = (*flags, *TELLING) if name in sys.argv or "--complete" in sys.argv else ()
        parameters = [Parameter(flag, Parameter.KEYWORD_ONLY, default=FLAGS[flag][0]) for flag in wanted]
        signature = Signature([Parameter("c", Parameter.POSITIONAL_OR_KEYWORD), *parameters])
        body.__signature__ = signature  # type: ignore[attr-defined]
        body.__name__, body.__doc__ = story.__name__, story.__doc__
        return task(
            body,
            default=default,
            positional=[flag for flag in wanted if flag in POSITIONAL],
            help={flag: FLAGS[flag][1] for flag in wanted},
            iterable=[flag for flag in wanted if isinstance(FLAGS[flag][0], list)],
            auto_shortflags=False,
        )

    return decorate


def _show(name: str, made: Results, options: Options) -> None:
    """The result: all that ever goes to stdout."""
    if options.flags.get("json"):  # invoke without a word gives no flags
        lines = [json.dumps({"task": name, "dry": options.dry, "results": [asdict(each) for each in made]}, indent=2)]
    else:
        lines = []
        for each in made:
            change, why = getattr(each, "change", ""), "; ".join(getattr(each, "why", ()))
            lines.append(f"{change:8}{each}{why and f'  ({why})'}" if options.dry and change else str(each))
    if lines:
        _say("\n".join(lines))


def _say(text: str) -> None:
    from build.progress import say

    say(text, sys.stdout)


def _show_plan(name: str, steps: Sequence[Made], options: Options) -> None:
    """The steps, then PublishError if one would be refused."""
    from build.release import refuse_plan

    _show(name, steps, replace(options, dry=True))
    refuse_plan(steps)


def _show_verdicts(name: str, verdicts: Sequence[Verdict], options: Options) -> None:
    """The table, then VerifyError if it is not good enough."""
    from build.verdicts import refuse, shown

    if options.flags.get("json"):
        _show(name, verdicts, options)
    else:
        _say(shown(verdicts, bool(sys.stdout and sys.stdout.isatty())))
    if not options.dry:
        refuse(verdicts, bool(options.flags.get("allow_not_run")))


@_command(*COMPILE)
def build(options: Options) -> Sequence[Made]:
    """Compile bin/pause-A."""
    shop = making(options, every_arch=False)
    from build.pipeline import build

    return build(shop)


@_command(*ASSEMBLE, *REMOTE[1:], "overwrite", show=_show_plan)
def plan(options: Options) -> Sequence[Made]:
    """Tell what all-push would do, and why."""
    shop = making(replace(options, dry=True), every_arch=True)
    from build.pipeline import plan

    return plan(shop)


@_command(*COMPILE, *RUN, show=_show_verdicts)
def verify(options: Options) -> Sequence[Verdict]:
    """Run every arch of the release as pods run it."""
    return verified(options)


@_command(*COMPILE)
def orphan(options: Options) -> Sequence[Made]:
    """Compile bin/orphan-A, which goes into no image."""
    shop = making(options, every_arch=False)
    from build.pipeline import companions

    return companions(shop)


@_command(*ASSEMBLE)
def container(options: Options) -> Sequence[Made]:
    """Make bin/pause-A.tar, an image to load."""
    shop = making(options, every_arch=False)
    from build.pipeline import container

    return container(shop)


@_command(*ASSEMBLE, default=True)
def all_container(options: Options) -> Sequence[Made]:
    """Make the image of every arch of the release."""
    shop = making(options, every_arch=True)
    from build.pipeline import container

    return container(shop)


@_command(*PUBLISH)
def push(options: Options) -> Sequence[Made]:
    """Publish REGISTRY/pause-A:TAG."""
    shop = making(options, every_arch=False)
    from build.pipeline import push

    return push(shop)


@_command(*PUBLISH)
def all_push_images(options: Options) -> Sequence[Made]:
    """Publish every arch of the release."""
    shop = making(options, every_arch=True)
    from build.pipeline import push

    return push(shop)


@_command("arch", "image", *REMOTE, "tag", "overwrite", "json")
def push_manifest(options: Options) -> Sequence[Made]:
    """Publish REGISTRY/pause:TAG, the list of what is pushed."""
    from build.pipeline import push_manifest

    return push_manifest(releasing(options))


@_command(*PUBLISH)
def all_push(options: Options) -> Sequence[Made]:
    """Publish every arch, then the manifest list."""
    shop = making(options, every_arch=True)
    from build.pipeline import all_push

    return all_push(shop)


@_command("reference", "arch", "image", *REMOTE, "tag", "json")
def check(options: Options) -> Sequence[Made]:
    """Prove what is published, from its bytes."""
    return checked(options)


allow("check", "reference")


@_command("src", "dst", "arch", "image", *REMOTE[1:], "tag", "overwrite", "json")
def copy(options: Options) -> Sequence[Made]:
    """Copy a release: registry, layout or archive."""
    return copied(options)


@_command("image", *REMOTE, "tag", "json")
def use(options: Options) -> Sequence[Setting]:
    """Print the settings that make nodes use the release."""
    return using(options)


@_command(*TOOLCHAIN)
def kube_cross(options: Options) -> Sequence[Made]:
    """Build a small toolchain image for --compiler kube-cross."""
    return toolchain(options)


@_command("registry", "json")
def clean(options: Options) -> Sequence[Removed]:
    """Remove what the tasks made, and nothing else."""
    return cleaned(options)
