"""The inputs of a binary or an image: the key of its cache entry, and what changed since it was last built."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from build.cache.cache import Cache, code, key_of
from build.oci.descriptor import DIGEST

# Characters. Longer values, such as long lists, are reported as "changed" without the values, unless they are digests.
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class Inputs:
    """What a result is built from: settings by the names that users give them, and file digests by path.

    Paths are relative to the checkout.
    """

    settings: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def key(self) -> str:
        """A hexadecimal key that changes with every setting and every file."""
        parts = [part for mapping in (self.settings, self.files) for pair in mapping.items() for part in pair]
        return key_of(str(len(self.settings)), *parts)

    def and_files(self, files: Mapping[str, str]) -> Inputs:
        """These inputs and more files."""
        return replace(self, files={**self.files, **files})


def changes(before: Inputs | None, now: Inputs) -> tuple[str, ...]:
    """One description for each input that differs between `before` and `now`."""
    if before is None:
        return ("not built here before",)
    # TAG and an image's own tag are usually the same setting: keep one of two descriptions that differ only in case.
    described = {text.casefold(): text for text in reversed([*_changes(before, _with_code(now))])}
    return tuple(described.values())[::-1]


def remember(cache: Cache, name: str, now: Inputs) -> None:
    """Store `now` as the inputs that `name` was last built from."""
    cache.put_note(name, json.dumps(asdict(_with_code(now))).encode())


def remembered(cache: Cache, name: str) -> Inputs | None:
    """The inputs that `name` was last built from, or None if they are not known."""
    note = cache.get_note(name)
    return Inputs(**json.loads(note)) if note else None


def _with_code(inputs: Inputs) -> Inputs:
    # Not part of Inputs.key: the cache adds the code to every key itself.
    return replace(inputs, settings={**inputs.settings, "the code in build": code()})


def _changes(before: Inputs, now: Inputs) -> Iterator[str]:
    for path in sorted({*before.files, *now.files}):
        old, new = before.files.get(path), now.files.get(path)
        if old != new:
            yield f"{path} {'is new' if old is None else 'is no longer used' if new is None else 'changed'}"
    for name in {**now.settings, **before.settings}:
        old, new = before.settings.get(name, ""), now.settings.get(name, "")
        if old != new:
            is_long = any(len(each) > _LONGEST_SHOWN and not DIGEST.fullmatch(each) for each in (old, new))
            yield f"{name} changed" if is_long else f"{name} {old or 'none'} → {new or 'none'}"
