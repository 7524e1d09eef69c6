"""Carries out the steps of a Dockerfile upon a base: config, history and one layer for each step that adds files.

With a layer for each, lines of the history match layers, as in images of `docker build`, and what a step adds is not
sent again because another step has changed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from posixpath import basename, join, normpath, split
from typing import Any

from build.errors import ImageError
from build.image.base import Base
from build.image.dockerfile import settings
from build.image.dockerfile.context import Context, Found
from build.image.dockerfile.copy import Copy, parse_copy
from build.image.dockerfile.syntax import USE_DOCKER, Dockerfile, Step, arguments
from build.image.dockerfile.words import expand
from build.image.layer import layer
from build.image.reader import LayerReader
from build.image.rootfs import Files
from build.image.windows.layer import windows_layer
from build.image.windows.paths import in_layer
from build.oci.image import Layer
from build.oci.platform import Platform
from build.oci.strict import shown
from build.oci.tar import File, Folder, Member, Symlink

# The beginning of compressed files, and of a tar archive at its offset: ADD would unpack these.
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_TAR, _TAR_AT = b"ustar", 257


@dataclass(frozen=True)
class Stage:
    """What the steps have made: a config without `rootfs`, and the layers upon those of the base.

    `copied` has the content of files by their paths in the checkout, and `sources` what COPY names.
    """

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    copied: Mapping[str, bytes] = field(repr=False)
    sources: tuple[str, ...]


def carry_out(
    dockerfile: Dockerfile, base: Base | None, context: Context, platform: Platform, created: str, time: int
) -> Stage:
    """The image's config and layers. `created` is an RFC 3339 time, `time` the same in seconds since the epoch.

    Raises ImageError with line and instruction for what can't be done.
    """
    steps = _Steps(dockerfile, base, context, created, time, is_windows=platform.is_windows)
    for step in dockerfile.steps:
        with dockerfile.location.at(step):
            steps.carry_out(step)
    if not base and not steps.layers:
        raise ImageError(f"{dockerfile.location}: no COPY, so the image would be empty")
    below = _config(dockerfile, base)
    author = {"author": below["author"]} if below.get("author") else {}
    history = [*(below.get("history") or ()), *steps.history]
    config = {**platform.fields(), **author, "created": created, "config": steps.settings, "history": history}
    return Stage(config, tuple(steps.layers), steps.copied, tuple(dict.fromkeys(steps.sources)))


def _config(dockerfile: Dockerfile, base: Base | None) -> Mapping[str, Any]:
    """The config of the base; raise ImageError for one that can't be built upon."""
    if base is None:
        return {}
    config: dict[str, Any] = json.loads(base.image.config.data)
    where = f"{dockerfile.location}: FROM {dockerfile.base}"
    for name, kind in (("config", dict), ("history", list), ("author", str)):
        if not isinstance(config.get(name) or kind(), kind):
            raise ImageError(f"{where}: config: {name}: found {shown(config[name])}, expected what image-spec has")
    if (config.get("config") or {}).get("OnBuild"):
        raise ImageError(
            f"{where}: its ONBUILD is not supported by the embedded engine\n  {USE_DOCKER}, or use another base"
        )
    return config


class _Steps:
    """The state between two steps: what they have made so far."""

    def __init__(
        self, dockerfile: Dockerfile, base: Base | None, context: Context, created: str, time: int, *, is_windows: bool
    ) -> None:
        self._dockerfile, self._base, self._context = dockerfile, base, context
        self._created, self._time, self._is_windows = created, time, is_windows
        self._has_shell = base is not None and not is_windows
        self.settings = settings.inherited(_config(dockerfile, base).get("config") or {})
        self._args: dict[str, str] = {}
        self._has_command = False
        self.history: list[dict[str, Any]] = []
        self.layers: list[Layer] = []
        self._read = 0  # layers whose files are known
        self.copied: dict[str, bytes] = {}
        self.sources: list[str] = []

    def carry_out(self, step: Step) -> None:
        members: list[Member] = []
        kind, value = step.instruction, step.value
        if kind == "ARG":
            declared = arguments(value, {**self._dockerfile.args, **self._args})
            self._args |= {name: default for name, default in declared.items() if default is not None}
        elif kind in ("COPY", "ADD"):
            members = self._copy(step, parse_copy(step, self._variables))
        elif kind == "WORKDIR":
            members = self._workdir(expand(value, self._variables))
        elif kind in settings.COMMANDS:
            settings.COMMANDS[kind](self.settings, value, self._has_shell)
            self._has_command = self._has_command or kind == "CMD"
            if kind == "ENTRYPOINT" and not self._has_command:
                self.settings.pop("Cmd", None)
        elif kind in settings.WORDS:
            settings.WORDS[kind](self.settings, value, self._variables)
        else:
            settings.PLAIN[kind](self.settings, expand(value, self._variables), self._base is not None)
        made: dict[str, Any] = {"created": self._created, "created_by": str(step)}
        if members:
            self.layers.append((windows_layer if self._is_windows else layer)(members, self._time, self._has))
        self.history.append(made if members else {**made, "empty_layer": True})

    @property
    def _variables(self) -> Mapping[str, str]:
        """ENV takes precedence over ARG."""
        return {**self._args, **settings.variables_of(self.settings)}

    @cached_property
    def _filesystem(self) -> Files:
        return self._base.files.copy() if self._base else Files()

    @property
    def _files(self) -> Files:
        """The filesystem of the base and of the layers so far, which are read only when it is needed."""
        for each in self.layers[self._read :]:
            self._filesystem.add(LayerReader(io.BytesIO(each.data), True, len(each.data)))
        self._read = len(self.layers)
        return self._filesystem

    def _has(self, path: str) -> bool:
        return (self._base is not None or bool(self.layers)) and self._files.is_folder(path)

    def _workdir(self, value: str) -> list[Member]:
        if not value:
            raise ImageError("expected a path")
        if self._is_windows:
            raise ImageError("not supported in images for Windows\n  use absolute paths")
        path = normpath(join(self.settings.get("WorkingDir") or "/", value)).replace("//", "/")
        self.settings["WorkingDir"] = path
        real = self._files.real_path(path)
        return [] if real == "/" or self._files.is_folder(real) else [Folder(real)]

    def _copy(self, step: Step, copy: Copy) -> list[Member]:
        place = in_layer if self._is_windows else join
        target = place(self.settings.get("WorkingDir") or "/", copy.target)
        if self._is_windows and copy.owner != (0, 0):
            raise ImageError(f"{step.value}: found --chown, expected none: Windows has no numeric owners")
        members: dict[str, Member] = {}
        found = [each for source in copy.sources for each in self._context.sources(source)]
        self.sources += [each for each in copy.sources if each != self._context.program_path]
        if len(found) > 1 and not copy.target.endswith("/"):
            raise ImageError(f"{step.value}: the target of {len(found)} sources must end with /")
        for top, *below in found:
            if step.instruction == "ADD":
                _refuse_archives(top)
            for path, each in self._placed(target, top, below):
                # As in Docker, new folders on the way there have the owner, too, but not the mode.
                for folder in _above(path):
                    members.setdefault(folder, Folder(folder, owner=copy.owner))
                members[path] = _member(path, each, copy)
                if each.data is not None:
                    self.copied[each.path] = each.data
        return [each for each in members.values() if not (isinstance(each, Folder) and self._has(each.path))]

    def _placed(self, target: str, top: Found, below: list[Found]) -> Iterator[tuple[str, Found]]:
        """Where a source and what is below it go: the content of a folder, or a file, into or as the target."""
        files = self._files if self._base or self.layers else Files()
        if top.is_folder:
            folder = files.real_path(target)
            if files.file(folder):
                raise ImageError(f"{top.path}: found a file {folder} in the image, expected a folder for its content")
            if folder != "/":
                yield folder, top
            for each in below:
                inside, name = split(join(folder, each.below))
                yield join(files.real_path(inside), name), each
            return
        into = target.endswith(("/", "/.", "/..")) or files.is_folder(target)
        path = files.real_path(join(target, basename(top.path)) if into else target)
        if files.is_folder(path):
            raise ImageError(f"{top.path}: found a folder {path} in the image, expected a file or nothing")
        yield path, top


def _above(path: str) -> Iterator[str]:
    """The folders that a path is in, except the root."""
    return (path[:end] for end, letter in enumerate(path) if letter == "/" and end)


def _member(path: str, found: Found, copy: Copy) -> Member:
    if found.target is not None:
        return Symlink(path, found.target, copy.owner)
    mode = found.mode if copy.mode is None else copy.mode
    return Folder(path, mode, copy.owner) if found.data is None else File(path, mode, found.data, copy.owner)


def _refuse_archives(found: Found) -> None:
    data = found.data or b""
    if data.startswith(_PACKED) or data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise ImageError(
            f"{found.path}: unpacking archives is not supported by the embedded engine"
            f"\n  copy it as it is with COPY, or {USE_DOCKER}"
        )
