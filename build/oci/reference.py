"""Names of what is published: repositories, tags and references, to the grammar of the distribution spec.

distribution-spec, "Pulling manifests": <name> and <reference>; hosts as in distribution/reference. A repository on disk
is spelled `oci:PATH`, and one in an archive `oci-archive:FILE:NAME`, as skopeo and podman do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from build.errors import UsageError
from build.oci.descriptor import DIGEST

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?")
LONGEST = 255
ARCHIVE = "oci-archive:"


@dataclass(frozen=True)
class Repository:
    """A repository in a registry (`host` and `name`), or an image layout on disk (no host, `name` is its folder).

    Of a repository in an archive, `host` is `oci-archive:FILE`.
    """

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
        if not _is_host(host):
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
        if self.host.startswith(ARCHIVE):
            return f"{self.host}:{self.name}"
        return f"oci:{self.name}" if self.on_disk else f"{self.host}/{self.name}"


def _is_host(text: str) -> bool:
    return bool(HOST.fullmatch(text) and re.search(r"[.:]|^localhost$", text))


def archive_file(registry: str) -> str:
    """FILE of `oci-archive:FILE`, or nothing for another spelling."""
    return registry.removeprefix(ARCHIVE) if registry.startswith(ARCHIVE) else ""


def check_registry(text: str) -> str:
    """Return `text` unless it names a folder or an archive that can't be meant; raise UsageError for that.

    The names of registries are for `Repository.parse`, when it is known what comes after them.
    """
    if text.startswith("oci:") and not text.removeprefix("oci:").strip("/"):
        raise UsageError(f"{text!r}: expected oci:FOLDER, not the root of the file system")
    file = archive_file(text)
    if text.startswith(ARCHIVE) and (not file or file.endswith("/") or ":" in file or not file.isprintable()):
        raise UsageError(f"{text!r}: expected oci-archive:FILE, with no colon and no control character in its name")
    host, slash, _ = text.partition("/")
    # Alone it has the form of a host's name.
    if text.endswith(".tar") and not text.startswith(("oci:", ARCHIVE)) and not (slash and _is_host(host)):
        raise UsageError(f"{text!r} is not a registry's host\n  an archive is spelled {ARCHIVE}{text}")
    return text


@dataclass(frozen=True)
class Reference:
    """What somebody asks for: a tag of a repository, or a digest; with both, the digest is what counts."""

    repository: Repository
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `REPOSITORY[:TAG][@sha256:…]`, with the tag `latest` if there is neither; or raise UsageError."""
        if "://" in text and not text.startswith("oci:"):
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


@dataclass(frozen=True)
class Tag:
    """A tag of a repository."""

    repository: Repository
    name: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.name}"
