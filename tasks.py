"""The Invoke tasks: flags and environment in, one pipeline call, errors out."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

# Invoke turns off bytecode files, and would have these modules compiled anew each time. Users who want none are heeded.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

from build.cli.inputs import checked, cleaned, copied, making, releasing, toolchain, using, verified
from build.cli.options import Options
from build.cli.output import plainly, show_matrix, show_plan, show_verdicts, tell_ci
from build.cli.parser import allow
from build.errors import BuildError, UsageError

if "--complete" in sys.argv:
    from build.cli.completion import offer_values

    offer_values(Path(__file__).with_name("arches.yaml"))

# A task lives for a second: collecting garbage while modules load, and once more at the end, would take a fifth of it.
# What is done for an arch leaves none that counts.
gc.set_threshold(20_000, 10, 100)
atexit.register(gc.freeze)

if TYPE_CHECKING:
    from build.cli.ci import Job
    from build.cli.output import Results
    from build.release.clean import Removed
    from build.release.nodes import Setting
    from build.release.release import Made
    from build.verify.verdicts import Verdict

ROOT = Path(__file__).resolve().parent

# A flag beats the environment variable in brackets, which beats arches.yaml.
FLAGS: Mapping[str, tuple[Any, str]] = {
    "src": (None, "where the release is: as --registry, or oci-archive:FILE"),
    "dst": (None, "where it goes: as --registry, or oci-archive:FILE"),
    "arch": ([], "a row of the arch table; repeat it for several, or say all [ARCH; for all: ALL_ARCH]"),
    "image": ([], "a row of the image table, in place of all; repeat it for several [IMAGE]"),
    "registry": ([], "where images go: HOST[:PORT][/PATH] or oci:FOLDER; repeat it for several [REGISTRY]"),
    "insecure_registry": ([], "a HOST[:PORT] to be spoken to in plain HTTP, or with a certificate that proves nothing"),
    "timeout": (None, "seconds that all exchanges with registries may take, waits included [TIMEOUT]"),
    "tag": (None, "the tag, of one image [TAG]"),
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
    "for_": ("github", "who reads it: github or gitlab"),
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
# Whose results are what a registry holds: CI systems that ask are told.
PUBLISHED = ("push", "all-push-images", "push-manifest", "all-push", "copy", "check")


def _command(
    *flags: str, example: str, default: bool = False, show: Callable[..., None] | None = None
) -> Callable[[Callable[[Options], Results]], Any]:
    """Make an Invoke task of a story, which takes options and returns what it made."""

    def decorate(story: Callable[[Options], Results]) -> Any:
        name = story.__name__.replace("_", "-")

        def body(c: Context, **given: Any) -> None:
            from build.cli.progress import to, watching

            quiet, verbose = (bool(given.get(flag)) for flag in TELLING)
            try:
                with watching(sys.stderr, os.environ, quiet, verbose) as report:
                    options = Options(ROOT, given, os.environ, c.config.run.dry, report)
                    found = story(options)
                (show or plainly)(name, found, options)
                if name in PUBLISHED:
                    tell_ci(name, found, options)
                return
            except UsageError as error:
                code, words = 2, str(error)
            except BuildError as error:
                code, words = 1, str(error)
            except OSError as error:
                code, words = 1, f"{error.filename or 'system'}: {error.strerror or error}"
            except KeyboardInterrupt:
                code, words = 130, "interrupted\n  run this again: it goes on where this ended"
            to(sys.stderr)(f"{name}: {words}")  # Invoke's own way ends in a traceback where nobody reads
            raise Exit(code=code)

        # Invoke copies the flags of every task at each start; only of a task that is named will any be asked for.
        wanted = (*flags, *TELLING) if name in sys.argv or "--complete" in sys.argv else ()
        parameters = [Parameter(flag, Parameter.KEYWORD_ONLY, default=FLAGS[flag][0]) for flag in wanted]
        signature = Signature([Parameter("c", Parameter.POSITIONAL_OR_KEYWORD), *parameters])
        body.__signature__ = signature  # type: ignore[attr-defined]
        body.__name__, body.__doc__ = story.__name__, f"{story.__doc__}\n\nFor example: invoke {example}"
        return task(
            body,
            default=default,
            positional=[flag for flag in wanted if flag in POSITIONAL],
            help={flag: FLAGS[flag][1] for flag in wanted},
            iterable=[flag for flag in wanted if isinstance(FLAGS[flag][0], list)],
            auto_shortflags=False,
        )

    return decorate


@_command(*COMPILE, example="build --arch arm64")
def build(options: Options) -> Sequence[Made]:
    """Compile bin/pause-A."""
    shops = making(options, every_arch=False)
    from build.release.pipeline import build

    return build(shops)


@_command(*ASSEMBLE, *REMOTE[1:], "overwrite", example="plan --registry registry.example/team", show=show_plan)
def plan(options: Options) -> Sequence[Made]:
    """Tell what all-push would do, and why."""
    shop = making(replace(options, dry=True), every_arch=True)
    from build.release.pipeline import plan

    return plan(shop)


@_command(*COMPILE, *RUN, example="verify --arch arm64 --arch s390x", show=show_verdicts)
def verify(options: Options) -> Sequence[Verdict]:
    """Run every arch of the release as pods run it."""
    return verified(options)


@_command(*COMPILE, example="orphan --arch all")
def orphan(options: Options) -> Sequence[Made]:
    """Compile bin/orphan-A, which goes into no image."""
    shops = making(options, every_arch=False)
    from build.release.pipeline import companions

    return companions(shops)


@_command(*ASSEMBLE, example="container --arch arm64")
def container(options: Options) -> Sequence[Made]:
    """Make bin/pause-A.tar, an image to load."""
    shops = making(options, every_arch=False)
    from build.release.pipeline import container

    return container(shops)


@_command(*ASSEMBLE, example="all-container --tag 3.2", default=True)
def all_container(options: Options) -> Sequence[Made]:
    """Make the image of every arch of the release."""
    shops = making(options, every_arch=True)
    from build.release.pipeline import container

    return container(shops)


@_command(*PUBLISH, example="push --arch arm64 --registry registry.example/team")
def push(options: Options) -> Sequence[Made]:
    """Publish REGISTRY/pause-A:TAG."""
    shops = making(options, every_arch=False)
    from build.release.pipeline import push

    return push(shops)


@_command(*PUBLISH, example="all-push-images --registry registry.example/team")
def all_push_images(options: Options) -> Sequence[Made]:
    """Publish every arch of the release."""
    shops = making(options, every_arch=True)
    from build.release.pipeline import push

    return push(shops)


@_command(
    "arch", "image", *REMOTE, "tag", "overwrite", "json", example="push-manifest --registry registry.example/team"
)
def push_manifest(options: Options) -> Sequence[Made]:
    """Publish REGISTRY/pause:TAG, the list of what is pushed."""
    from build.release.pipeline import push_manifest

    return push_manifest(releasing(options))


@_command(*PUBLISH, example="all-push --registry registry.example/team --verify")
def all_push(options: Options) -> Sequence[Made]:
    """Publish every arch, then the manifest list."""
    shops = making(options, every_arch=True)
    from build.release.pipeline import all_push

    return all_push(shops)


@_command("reference", "arch", "image", *REMOTE, "tag", "json", example="check registry.example/team/pause:3.1")
def check(options: Options) -> Sequence[Made]:
    """Prove what is published, from its bytes."""
    return checked(options)


allow("check", "reference")


@_command(
    "src",
    "dst",
    "arch",
    "image",
    *REMOTE[1:],
    "tag",
    "overwrite",
    "json",
    example="copy registry.example/team oci-archive:release.tar",
)
def copy(options: Options) -> Sequence[Made]:
    """Copy a release: registry, layout or archive."""
    return copied(options)


@_command("arch", "image", "for_", "json", example="matrix --for gitlab", show=show_matrix)
def matrix(options: Options) -> Sequence[Job]:
    """Print the jobs that CI may fan out to, as JSON."""
    (release, *_), *_ = releasing(options)
    from build.cli.ci import fan_out

    return fan_out(release)


@_command(
    *(flag for flag in ASSEMBLE if flag not in ("engine", "compiler")), example="bake --registry registry.example/team"
)
def bake(options: Options) -> Sequence[Made]:
    """Write docker-bake.json, for BuildKit's builders."""
    shops = making(replace(options, flags={**options.flags, "compiler": "kube-cross"}), every_arch=True)
    from build.release.bake import bake

    return bake(shops)


@_command("image", *REMOTE, "tag", "json", example="use --registry registry.example/team")
def use(options: Options) -> Sequence[Setting]:
    """Print the settings that make nodes use the release."""
    return using(options)


@_command(*TOOLCHAIN, example="kube-cross --kube-cross-image local/kube-cross")
def kube_cross(options: Options) -> Sequence[Made]:
    """Build a small toolchain image for --compiler kube-cross."""
    return toolchain(options)


@_command("registry", "json", example="--dry clean")
def clean(options: Options) -> Sequence[Removed]:
    """Remove what the tasks made, and nothing else."""
    return cleaned(options)
