"""Repositories, tags and references.

<name> and <reference> follow the distribution-spec, "Pulling manifests"; hosts follow distribution/reference, and may
have `_`, as those of container networks do. A layout is written `oci:FOLDER` and a repository in an archive
`oci-archive:FILE:NAME`, as in skopeo and podman.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from build.errors import UsageError
from build.oci.descriptor import DIGEST
from build.report import Place

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?")
# Characters of HOST/NAME; many registries reject longer names (distribution-spec, "Pulling manifests").
MAX_LENGTH = 255
ARCHIVE = "oci-archive:"


@dataclass(frozen=True)
class Repository:
    """A repository in a registry, a layout or an archive.

    `host` is HOST[:PORT], empty for a layout, or `oci-archive:FILE`; `name` is the folder of a layout.
    """

    host: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """Parse `HOST[:PORT]/NAME` or `oci:FOLDER`; raise UsageError for anything else."""
        if text.startswith("oci:"):
            folder = text.removeprefix("oci:")
            if not folder.strip("/") or ":" in folder or not folder.isprintable():
                raise UsageError(
                    f"{text!r}: expected oci:FOLDER, with FOLDER in UTF-8 and without colons or control characters"
                )
            return cls("", folder)
        host, _, name = text.partition("/")
        check_port(host, text)
        if not _is_host(host):
            several = (
                "\n  for several, repeat the flag: --registry A --registry B" if re.search(r"[\s,;]", text) else ""
            )
            hub = f"\n  on Docker Hub: docker.io/{host}; on a host of that name: {host}:PORT"
            raise UsageError(
                f"{text!r}: {host!r} is not a registry's host"
                "\n  expected HOST[:PORT][/PATH], for example registry.example/team or localhost:5000, or oci:FOLDER"
                + several
                + (hub if NAME.fullmatch(host) else "")
            )
        if not NAME.fullmatch(name) or len(text) > MAX_LENGTH:
            raise UsageError(
                f"{text!r}: {name!r} is not a repository name"
                f"\n  expected lower-case letters and digits, joined by . _ __ - or /, at most {MAX_LENGTH} characters"
            )
        return cls(host, name)

    @property
    def on_disk(self) -> bool:
        """Whether this is an image layout."""
        return not self.host

    @property
    def is_remote(self) -> bool:
        """Whether this is in a registry."""
        return not self.on_disk and not self.host.startswith(ARCHIVE)

    def __str__(self) -> str:
        if self.host.startswith(ARCHIVE):
            return f"{self.host}:{self.name}".removesuffix(":")
        return f"oci:{self.name}" if self.on_disk else f"{self.host}/{self.name}"


def _is_host(text: str) -> bool:
    return bool(HOST.fullmatch(text) and re.search(r"[.:]|^localhost$", text))


def check_port(host: str, text: str) -> None:
    """Raise UsageError, with the whole `text`, if HOST:PORT has a port that no host can have."""
    name, colon, port = host.rpartition(":")
    if colon and HOST.fullmatch(name) and port.isdecimal() and (len(port) > 5 or not 0 < int(port) < 1 << 16):
        raise UsageError(f"{text!r}: found port {port}, expected 1 to 65535")


def full_name(name: str) -> str:
    """`name`, [HOST/]NAME[:TAG], with the host and the path of Docker Hub where it leaves them out.

    Container engines complete names like this before they look for an image (distribution/reference, "Normalized").
    """
    host, _, rest = name.partition("/")
    if not _is_host(host) or not rest:
        host, rest = "docker.io", name
    if host in ("docker.io", "index.docker.io"):
        host, rest = "docker.io", rest if "/" in rest else f"library/{rest}"
    return f"{host}/{rest}"


def archive_file(registry: str) -> str:
    """FILE if `registry` is `oci-archive:FILE`, else an empty string."""
    return registry.removeprefix(ARCHIVE) if registry.startswith(ARCHIVE) else ""


def check_registry(text: str) -> str:
    """Return `text` without a `/` at its end if it may be a registry, a layout or an archive, else raise UsageError.

    `Repository.parse` checks a registry's host later, together with the repository name.
    """
    if text.startswith("oci:") and not text.removeprefix("oci:").strip("/"):
        raise UsageError(f"{text!r}: expected oci:FOLDER, not the root of the file system")
    file = archive_file(text)
    if text.startswith(ARCHIVE) and (not file or file.endswith("/") or ":" in file or not file.isprintable()):
        raise UsageError(
            f"{text!r}: expected oci-archive:FILE, with FILE in UTF-8 and without colons or control characters"
        )
    text = text.rstrip("/") or text
    host, slash, _ = text.partition("/")
    # NAME.tar could also be the name of a host.
    if text.endswith(".tar") and not text.startswith(("oci:", ARCHIVE)) and not (slash and _is_host(host)):
        raise UsageError(f"{text!r} is not a registry's host\n  write {ARCHIVE}{text} for an archive")
    return text


def is_reference(text: str) -> bool:
    """Whether `text` has a tag or a digest, or an archive's entry; a registry, a folder or a file alone has none."""
    for kind in ("oci:", ARCHIVE):
        if text.startswith(kind):
            return not {":", "@"}.isdisjoint(text.removeprefix(kind))
    _, slash, name = text.rpartition("/")
    return "@" in text or bool(slash and ":" in name)


@dataclass(frozen=True)
class Reference:
    """A tag or a digest in a repository; if both are given, the digest takes precedence.

    Of a layout or an archive with neither, it is everything in it.
    """

    repository: Repository
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse `REPOSITORY[:TAG][@sha256:…]`; raise UsageError for anything else. `latest` is a registry's default."""
        if "://" in text and not text.startswith("oci:"):
            raise UsageError(f"{text!r}: expected HOST[:PORT]/NAME[:TAG][@sha256:…] without a scheme")
        named, at, digest = text.partition("@")
        if at and not DIGEST.fullmatch(digest):
            raise UsageError(f"{text!r}: {digest!r} is not a digest\n  expected sha256: and 64 hexadecimal digits")
        if named.startswith(ARCHIVE):
            file, _, entry = named.removeprefix(ARCHIVE).partition(":")
            check_registry(ARCHIVE + file)
            if not entry.isprintable():
                raise UsageError(f"{text!r}: expected oci-archive:FILE[:NAME:TAG] without control characters")
            name, _, tag = entry.rpartition(":")
            return cls(Repository(ARCHIVE + file, name), tag, digest)
        start = len("oci:") if named.startswith("oci:") else named.rfind("/") + 1
        name, colon, tag = named[start:].partition(":")
        if colon:
            check_tag(tag)
        repository = Repository.parse(named[:start] + name)
        return cls(repository, tag or ("" if digest or repository.on_disk else "latest"), digest)

    @property
    def place(self) -> Place:
        """The place in results."""
        return Place(self.repository.host, self.repository.name, self.tag)

    @property
    def wanted(self) -> str:
        """The <reference> of a request: the digest, or else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def base_reference(text: str) -> Reference:
    """What FROM names; without a host, as container engines take it (see `full_name`). Raises UsageError."""
    return Reference.parse(text if text.startswith(("oci:", ARCHIVE)) else full_name(text))


def check_tag(text: str) -> str:
    """Return `text` if it is a tag; raise UsageError otherwise."""
    if not TAG.fullmatch(text):
        expected = "expected letters, digits, _ . or -, not . or - first, at most 128 characters"
        if len(parts := text.split(",")) > 1 and all(map(TAG.fullmatch, parts)):
            expected = "expected one: for several, run it once for each"
        raise UsageError(f"{text!r} is not a tag\n  {expected}")
    return text


@dataclass(frozen=True)
class Tag:
    """A tag of a repository."""

    repository: Repository
    name: str

    @property
    def place(self) -> Place:
        """The place in results."""
        return Place(self.repository.host, self.repository.name, self.name)

    def __str__(self) -> str:
        return f"{self.repository}:{self.name}"
