"""The Invoke tasks: a table of names, help and flags. What each does is in build/cli/commands/."""

from __future__ import annotations

import sys

# Invoke turns bytecode files off, so that these modules would be compiled in each run. PYTHONDONTWRITEBYTECODE counts.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

from build.cli.run import Interrupted, end, exit_on_signals, run

exit_on_signals("invoke")

import atexit
import gc
import os
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, Signature
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task

from build.cli import output
from build.cli.options import Options
from build.cli.parser import complete_values, make_optional
from build.errors import BuildError
from build.report import collecting

ROOT = Path(__file__).resolve().parent

if "--complete" in sys.argv:
    complete_values()

if isinstance(sys.stdout, TextIOWrapper):  # stderr does so by itself
    sys.stdout.reconfigure(errors="backslashreplace")

# A task takes a second or less. Collecting garbage while modules load, and again at exit, would be a tenth of that.
gc.set_threshold(20_000, 10, 100)
atexit.register(gc.freeze)

# A flag takes precedence over the environment variable in brackets, which takes precedence over arches.yaml.
FLAGS: Mapping[str, tuple[Any, str]] = {
    "src": (None, "a release: a --registry or oci-archive:FILE; or a list or an image: a reference, which has a tag"),
    "dst": (None, "the same kind: a --registry or oci-archive:FILE, or a reference with a tag"),
    "old": (None, "a reference: HOST[:PORT]/NAME[:TAG][@DIGEST], oci:FOLDER[:TAG] or oci-archive:FILE[:NAME:TAG]"),
    "new": (None, "the reference to compare it with"),
    "repository": (None, "HOST[:PORT]/NAME, oci:FOLDER or oci-archive:FILE[:NAME]; default: those of the release"),
    "arch": ([], "a row of the arch table, all, linux or windows; may be repeated [ARCH; for all: ALL_ARCH]"),
    "image": ([], "a row of the image table, instead of every row; may be repeated [IMAGE]"),
    "registry": ([], "where images are published: HOST[:PORT][/PATH] or oci:FOLDER; may be repeated [REGISTRY]"),
    "insecure_registry": ([], "HOST[:PORT] to contact over plain HTTP or without certificate verification"),
    "timeout": (None, "seconds that all requests to registries may take, waiting included [TIMEOUT]"),
    "parallel": (None, "requests that may be in flight to a registry at a time [PARALLEL]"),
    "tag": (None, "the tag of a single image [TAG]"),
    "also_tag": ([], "a further tag for the release, such as latest; may be repeated [ALSO_TAG]"),
    "tag_": (None, "the tag that is to refer to what REFERENCE refers to"),
    "platform": ([], "os/architecture[/variant] to take from a list, as a new list; may be repeated"),
    "rev": (None, "the revision at the end of VERSION, instead of git's [REV]"),
    "cflags": (None, "compiler flags [CFLAGS]"),
    "engine": (None, "what builds images: embedded or docker [ENGINE]"),
    "compiler": (None, "zig, kube-cross or host, instead of the engine's default [COMPILER]"),
    "libc": (False, "link the compiler's libc instead of build/runtime"),
    "kube_cross_image": (None, "name of the toolchain image [KUBE_CROSS_IMAGE]"),
    "kube_cross_version": (None, "tag of the toolchain image [KUBE_CROSS_VERSION]"),
    "windows": (False, "with a compiler for Windows, too (mingw-w64)"),
    "pull": (None, "when to ask for bases (FROM): always (default), missing or never [PULL]"),
    "format": (None, "media types: oci or docker [FORMAT]"),
    "without_referrers": (False, "leave out signatures, attestations and whatever else refers to what is copied"),
    "overwrite": (False, "move tags that exist with another digest"),
    "reference": (None, "HOST[:PORT]/NAME[:TAG][@DIGEST], oci:FOLDER[:TAG] or oci-archive:FILE[:NAME:TAG]"),
    "verify": (False, "run every arch the way pods do, before the first tag moves"),
    "sign": (None, "sign with this key: a PEM file, a cosign.key, env://NAME, or the URI of a KMS [SIGN_KEY]"),
    "signature_format": (None, "bundle, cosign (nodes know only this), or both (default) [SIGNATURE_FORMAT]"),
    "key": (None, "the public key that proves signatures: a PEM file, or as for --sign [VERIFY_KEY]"),
    "with_": (None, "what runs it: namespaces (default), docker or podman"),
    "allow_not_run": (False, "don't fail for arches that can't be run here"),
    "for_": ("github", "the CI system: github or gitlab"),
    "json": (False, "print the results as one JSON document"),
    "quiet": (False, "print errors only"),
    "verbose": (False, "print every command and every HTTP request, one per line, without secrets"),
}
TOOLCHAIN = ("kube_cross_image", "kube_cross_version", "json")
COMPILE = ("arch", "image", "tag", "rev", "cflags", "engine", "compiler", "libc", *TOOLCHAIN)
REMOTE = ("insecure_registry", "timeout", "parallel")
BASES = ("pull", *REMOTE)
ASSEMBLE = (*COMPILE, "also_tag", "registry", "format", *BASES)
RUN = ("with_", "allow_not_run")
PUBLISH = (*ASSEMBLE, "overwrite", "verify", *RUN)
SIGN = ("sign", "signature_format")
RELEASE = ("arch", "image", "registry", *REMOTE, "tag", "also_tag", "json")
PROGRESS = ("quiet", "verbose")
POSITIONAL = ("src", "dst", "reference", "repository", "tag_", "old", "new")


def _task(
    name: str,
    help_text: str,
    *flags: str,
    example: str,
    show: Callable[..., None] = output.show,
    dry: bool = False,
    default: bool = False,
) -> Any:
    """The Invoke task for the coroutine of this name in build/cli/commands/; `show` shows its results.

    A `dry` task changes nothing, even without --dry.
    """

    def body(c: Context, **given: Any) -> None:
        results: list[Any] = []
        is_dry = dry or c.config.run.dry
        document = partial(output.document, name, is_dry, results)
        exit_on_signals(name, document if given.get("json") else None)
        from build.cli.progress import to, watching

        async def main() -> Options:
            from build.cli.commands import building, proving, published

            modules = (building, published, proving)
            command = next(getattr(each, body.__name__) for each in modules if hasattr(each, body.__name__))
            async with watching(sys.stderr, os.environ, *(bool(given.get(flag)) for flag in PROGRESS)) as report:
                options = Options(ROOT, given, os.environ, is_dry, collecting(report, results))
                results[:] = await command(options)
                return options

        failures: list[tuple[int, str]] = []
        try:
            show(name, results, run(main))
        except (BuildError, UnicodeEncodeError, OSError, Interrupted) as error:
            failures.append(output.failure(error))
        if given.get("json"):
            exit_on_signals(name)
            try:
                output.write(document(*(failures[0] if failures else ())))
            except BuildError as error:
                failures.append(output.failure(error))
        for _, message in failures:
            to(sys.stderr)(f"{name}: {message}")  # Invoke's Exit would end in a traceback if stderr can't be written
        if failures:
            end(failures[0][0])

    # Invoke copies the flags of every task at each start, but it only needs those of the tasks that are named.
    wanted = (*flags, *PROGRESS) if name in sys.argv or "--complete" in sys.argv else ()
    parameters = [Parameter(flag, Parameter.KEYWORD_ONLY, default=FLAGS[flag][0]) for flag in wanted]
    signature = Signature([Parameter("c", Parameter.POSITIONAL_OR_KEYWORD), *parameters])
    body.__signature__ = signature  # type: ignore[attr-defined]
    body.__name__, body.__doc__ = name.replace("-", "_"), f"{help_text}\n\nFor example: invoke {example}"
    return task(
        body,
        default=default,
        positional=[flag for flag in wanted if flag in POSITIONAL],
        help={flag: FLAGS[flag][1] for flag in wanted},
        iterable=[flag for flag in wanted if isinstance(FLAGS[flag][0], list)],
        auto_shortflags=False,
    )


build = _task("build", "Compile bin/pause-A.", *COMPILE, example="build --arch arm64")
plan = _task(
    "plan",
    "Show what all-push would do, and why.",
    *(*ASSEMBLE, "overwrite"),
    example="plan --registry registry.example/team",
    show=output.show_plan,
    dry=True,
)
verify = _task(
    "verify",
    "Run every arch of the release the way pods do.",
    *(*COMPILE, *BASES, *RUN),
    example="verify --arch arm64 --arch s390x",
    show=output.show_verdicts,
)
orphan = _task("orphan", "Compile the test helper bin/orphan-A.", *COMPILE, example="orphan --arch all")
container = _task("container", "Build bin/pause-A.tar, an image to load.", *ASSEMBLE, example="container --arch arm64")
all_container = _task(
    "all-container",
    "Build the image of every arch of the release.",
    *ASSEMBLE,
    example="all-container --tag 3.2",
    default=True,
)
push = _task(
    "push",
    "Publish REGISTRY/pause-A:TAG.",
    *PUBLISH,
    example="push --arch arm64 --registry registry.example/team",
    show=output.show_published,
)
all_push_images = _task(
    "all-push-images",
    "Publish every arch of the release.",
    *PUBLISH,
    example="all-push-images --registry registry.example/team",
    show=output.show_published,
)
push_manifest = _task(
    "push-manifest",
    "Publish REGISTRY/pause:TAG, the manifest list.",
    *(*RELEASE, "overwrite", *SIGN),
    example="push-manifest --registry registry.example/team",
    show=output.show_published,
)
all_push = _task(
    "all-push",
    "Publish every arch, then the manifest list.",
    *(*PUBLISH, *SIGN),
    example="all-push --registry registry.example/team --verify",
    show=output.show_published,
)
check = _task(
    "check",
    "Verify what is published, byte by byte.",
    *("reference", *RELEASE, "key"),
    example="check registry.example/team/pause:3.1",
    show=output.show_published,
)
make_optional("check", "reference")
copy = _task(
    "copy",
    "Copy a release, or any list or image by reference.",
    *("src", "dst", "arch", "image", "platform", *REMOTE, "tag", "also_tag", "overwrite"),
    *("without_referrers", *SIGN, "json"),
    example="copy registry.example/team oci-archive:release.tar",
    show=output.show_published,
)
sign = _task(
    "sign",
    "Sign what is published, by anyone.",
    *("reference", *REMOTE, *SIGN, "json"),
    example="sign registry.example/team/pause:3.1 --sign cosign.key",
    show=output.show_published,
)
rebuild = _task(
    "rebuild",
    "Build again what is published, and compare.",
    *("reference", "key", "rev", *REMOTE, "json"),
    example="rebuild registry.example/team/pause:3.1 --key cosign.pub",
    show=output.show_rebuilt,
)
tags = _task(
    "tags",
    "List tags with digest, date and platforms.",
    *("repository", "arch", "image", "registry", *REMOTE, "json"),
    example="tags registry.example/team/pause",
)
make_optional("tags", "repository")
retag = _task(
    "retag",
    "Move a tag to what the repository has: a rollback.",
    *("reference", "tag_", *REMOTE, "overwrite", "json"),
    example="retag registry.example/team/pause:3.1 stable",
    show=output.show_published,
)
diff = _task(
    "diff",
    "Show what changed between two references.",
    *("old", "new", *REMOTE, "json"),
    example="diff registry.example/team/pause:3.0 registry.example/team/pause:3.1",
)
matrix = _task(
    "matrix",
    "Print a matrix of CI jobs as JSON.",
    *("arch", "image", "for_", "json"),
    example="matrix --for gitlab",
    show=output.show_matrix,
)
bake = _task(
    "bake",
    "Write docker-bake.json for BuildKit.",
    *(flag for flag in ASSEMBLE if flag not in ("engine", "compiler", *BASES)),
    example="bake --registry registry.example/team",
)
use = _task(
    "use",
    "Print settings that make nodes use the release.",
    *("reference", "image", "registry", *REMOTE, "tag", "key", "json"),
    example="use --registry registry.example/team",
)
make_optional("use", "reference")
kube_cross = _task(
    "kube-cross",
    "Build a small toolchain image for --compiler kube-cross.",
    *("windows", *TOOLCHAIN),
    example="kube-cross --kube-cross-image localhost/kube-cross",
)
clean = _task("clean", "Remove what the tasks made, and nothing else.", "registry", "json", example="--dry clean")
