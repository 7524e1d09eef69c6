"""What a binary or an image is made from: a key for the cache, and a reason why it is made anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from build.cache.cache import Cache, code, key_of

# The part of a digest, or of a long list, that tells nobody anything.
_LONG = 60


@dataclass(frozen=True)
class Inputs:
    """Settings by the names that users know them by, and the digest of each file by its path in the checkout."""

    settings: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def key(self) -> str:
        """Hex digits that are others as soon as any ingredient is."""
        named = [part for names in (self.settings, self.files) for pair in names.items() for part in pair]
        return key_of(str(len(self.settings)), *named)

    def and_files(self, files: Mapping[str, str]) -> Inputs:
        """The same, and more files."""
        return replace(self, files={**self.files, **files})


def changes(before: Inputs | None, now: Inputs) -> tuple[str, ...]:
    """In words, what has changed between what something was made from and what it is made from."""
    if before is None:
        return ("not made here before",)
    # An image's own tag is as a rule the TAG, too.
    return tuple({words.casefold(): words for words in reversed([*_changes(before, _with_code(now))])}.values())[::-1]


def remember(cache: Cache, name: str, now: Inputs) -> None:
    """Let `now` be what `name` was made from last."""
    cache.note(name, json.dumps(asdict(_with_code(now))).encode())


def remembered(cache: Cache, name: str) -> Inputs | None:
    """What `name` was made from last, as far as that is known here."""
    noted = cache.noted(name)
    return Inputs(**json.loads(noted)) if noted else None


def _with_code(now: Inputs) -> Inputs:
    # No part of the key, as the cache has it in the place of every entry.
    return replace(now, settings={**now.settings, "the code in build": code()})


def _changes(before: Inputs, now: Inputs) -> Iterator[str]:
    for path in sorted({*before.files, *now.files}):
        old, new = before.files.get(path), now.files.get(path)
        if old != new:
            yield f"{path} {'is new' if old is None else 'is not used any more' if new is None else 'changed'}"
    for name in {**now.settings, **before.settings}:
        was, is_ = before.settings.get(name, ""), now.settings.get(name, "")
        if was != is_:
            yield f"{name} changed" if max(len(was), len(is_)) > _LONG else f"{name} {was or 'none'} → {is_ or 'none'}"
