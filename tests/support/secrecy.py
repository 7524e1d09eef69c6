"""What no run may ever show: passwords and tokens, in any of the forms in which they travel."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.support.checkout import Run

LONGEST_SHOWN = 12


@dataclass
class Secrets:
    """Secrets, and the runs that shall keep them."""

    secrets: set[str] = field(default_factory=set)
    runs: list[Run] = field(default_factory=list)

    def add(self, secret: str, user: str = "") -> str:
        """Remember `secret`, and the forms that it and `USER:SECRET` take in URLs and headers; returns it."""
        for text in (secret, f"{user}:{secret}") if user else (secret,):
            data = text.encode()
            self.secrets |= {text, quote(text, safe=""), b64encode(data).decode(), urlsafe_b64encode(data).decode()}
        return secret

    def shown(self) -> list[str]:
        """The beginnings of the secrets that a run has shown."""
        said = "".join(run.stdout + run.stderr for run in self.runs)
        return [secret[:LONGEST_SHOWN] for secret in self.secrets if secret in said]
