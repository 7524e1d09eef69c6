"""What the user said: flags, and the environment behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build.errors import UsageError
from build.events import Report, silent


@dataclass(frozen=True)
class Options:
    """What the user said: flags by name, and the environment. A `dry` run changes nothing; `report` hears of all."""

    root: Path
    flags: Mapping[str, Any]
    environment: Mapping[str, str]
    dry: bool
    report: Report = silent

    def text(self, name: str, default: str) -> str:
        """A flag, the environment variable of its name in capitals, or the default; an empty one counts as unset."""
        return self.flags.get(name) or self.environment.get(name.upper()) or default

    def one_of(self, name: str, default: str, known: Mapping[str, Any]) -> Any:
        """The value in `known` that the option names; raise UsageError with the nearest name for any other."""
        from build.config.arches import nearest

        chosen = self.text(name, default)
        if chosen not in known:
            raise UsageError(f"unknown {name} {chosen!r}{nearest(chosen, known)}")
        return known[chosen]
