"""Names of what is published: repositories, tags and references, to the grammar of the distribution spec.

distribution-spec, "Pulling manifests": <name> and <reference>; hosts as in distribution/reference. A repository on disk
is spelled `oci:PATH`, as skopeo and podman do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from build.errors import UsageError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?")
LONGEST = 255


@dataclass(frozen=True)
class Repository:
    """A repository in a registry (`host` and `name`), or an image layout on disk (no host, `name` is its folder)."""

    host: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Read `HOST[:PORT]/NAME` or `oci:FOLDER`; raise UsageError that says which part is wrong."""
        if text.startswith("oci:"):
            folder = text.removeprefix("oci:")
            if not folder.strip("/") or ":" in folder or not folder.isprintable():
                raise UsageError(f"{text!r}: expected oci:FOLDER, with no colon and no control character in its name")
            return cls("", folder)
        host, _, name = text.partition("/")
        if not HOST.fullmatch(host) or not re.search(r"[.:]|^localhost$", host):
            raise UsageError(
                f"{text!r}: {host!r} is not a registry's host"
                "\n  expected HOST[:PORT][/PATH], as registry.example/team or localhost:5000, or oci:FOLDER"
            )
        if not NAME.fullmatch(name) or len(text) > LONGEST:
            raise UsageError(
                f"{text!r}: {name!r} is not a repository's name"
                f"\n  expected lower-case letters and digits, joined by . _ __ - or /, {LONGEST} characters at most"
            )
        return cls(host, name)

    @property
    def on_disk(self) -> bool:
        """Whether this is an image layout rather than a repository in a registry."""
        return not self.host

    def __str__(self) -> str:
        return f"oci:{self.name}" if self.on_disk else f"{self.host}/{self.name}"


@dataclass(frozen=True)
class Reference:
    """What somebody asks for: a tag of a repository, or a digest; with both, the digest is what counts."""

    repository: Repository
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `REPOSITORY[:TAG][@sha256:…]`, with the tag `latest` if there is neither; or raise UsageError."""
        if "://" in text:
            raise UsageError(f"{text!r}: expected HOST[:PORT]/NAME[:TAG][@sha256:…], with no scheme before it")
        named, at, digest = text.partition("@")
        if at and not DIGEST.fullmatch(digest):
            raise UsageError(f"{text!r}: {digest!r} is not a digest\n  expected sha256: and 64 hexadecimal digits")
        start = len("oci:") if named.startswith("oci:") else named.rfind("/") + 1
        name, colon, tag = named[start:].partition(":")
        if colon:
            check_tag(tag)
        repository = Repository.parse(named[:start] + name)
        return cls(repository, tag or ("" if digest else "latest"), digest)

    @property
    def wanted(self) -> str:
        """What to ask the repository for: the digest, or else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def check_tag(text: str) -> str:
    """Return `text` if it is a tag; raise UsageError otherwise."""
    if not TAG.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a tag\n  expected letters, digits, _ . or -, not . or - first, 128 characters at most"
        )
    return text
