"""URLs: checked, compared by origin, and shown without secrets (RFC 3986; RFC 6454, 4)."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urljoin, urlsplit

from build.errors import PublishError

PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def checked(url: str, schemes: Collection[str] = ("http", "https")) -> str:
    """Return `url` if it has one of the schemes; otherwise raise PublishError without showing it."""
    try:
        parts = urlsplit(url)
        if parts.scheme in schemes and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # invalid brackets or port
        pass
    raise PublishError("found no URL where a server named one, expected https://HOST[:PORT]/…")


def resolved(base: str, target: str, name: str) -> str:
    """The URL `target` relative to `base`; PublishError, with the name of the header, if it is not a URL.

    If both have the same origin, it is spelled as in `base`, so that the same settings and credentials apply.
    """
    try:
        found = checked(urljoin(base, target))
        return urlsplit(found)._replace(netloc=host_of(base)).geturl() if origin_of(found) == origin_of(base) else found
    except (ValueError, PublishError):
        raise PublishError(f"{host_of(base)}: found an invalid URL in the {name} of its answer") from None


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL, for comparison (RFC 6454, 4)."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or PORTS[parts.scheme]


def redacted(url: str) -> str:
    """The URL without user, query and fragment, any of which may contain a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{host_of(url)}{parts.path}"


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine, whatever a resolver says."""
    name = (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower()
    if name == "localhost":
        return True
    from ipaddress import ip_address

    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
