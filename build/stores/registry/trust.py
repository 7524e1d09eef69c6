"""How a host is reached: in plain HTTP or not, whose certificates are believed, and through which proxy.

`certs.d` folders are Docker's: one by the name of HOST[:PORT] holds `*.crt` (authorities) and pairs of `*.cert` and
`*.key` (who we are). HTTP_PROXY, HTTPS_PROXY and NO_PROXY mean what they mean to Docker.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from build.errors import PublishError

if TYPE_CHECKING:
    from ssl import SSLContext


PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """Where a proxy is (a URL without user and password), and its `Proxy-Authorization`, which is never shown."""

    url: str
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True)
class Trust:
    """What the user's machine and command line say of hosts.

    `proxies` has the variables' values by `http`, `https` and `no`; `insecure` are the hosts (HOST[:PORT]) that may be
    spoken to in plain HTTP, or with a certificate that proves nothing.
    """

    certificates: tuple[Path, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict)
    insecure: Collection[str] = ()

    def may_be_plain(self, host: str) -> bool:
        """Whether plain HTTP to HOST[:PORT] is no danger, or wanted all the same."""
        return is_loopback(host) or self.is_insecure(host)

    def check(self, url: str) -> None:
        """Raise PublishError if what goes to `url` could be read or changed on its way."""
        parts = urlsplit(checked(url))
        if parts.scheme != "https" and not self.may_be_plain(host_of(url)):
            raise PublishError(
                f"{parts.scheme}://{host_of(url)}: expected https, as nothing is sent in the open"
                f"\n  if the way there is safe: --insecure-registry {host_of(url)}"
            )

    def context(self, host: str) -> SSLContext:
        """The TLS settings for HOST[:PORT]: the system's authorities, and those of its `certs.d` folders."""
        import ssl

        context = ssl.create_default_context()
        if self.is_insecure(host):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for folder in (base / host for base in self.certificates):
            for path in sorted(folder.glob("*.crt")):
                _load(path, partial(context.load_verify_locations, path))
            for path in sorted(folder.glob("*.cert")):
                key = path.with_suffix(".key")
                if not key.is_file():
                    raise PublishError(f"{path}: found no {key.name} beside it, expected the certificate's key")
                _load(path, partial(context.load_cert_chain, path, key, password=""))  # never ask
        return context

    def proxy(self, url: str) -> Proxy | None:
        """The proxy for `url`, or None. Raises PublishError for a variable that holds no proxy's URL."""
        scheme = urlsplit(url).scheme
        value = self.proxies.get(scheme)
        if not value or is_loopback(host_of(url)) or _is_exempt(url, self.proxies.get("no", "")):
            return None
        try:
            parts = urlsplit(checked(value if "://" in value else f"http://{value}"))
            if parts.path.strip("/") or parts.query or parts.fragment:  # the rest of a password, most likely
                raise ValueError
        except (PublishError, ValueError):
            raise PublishError(
                f"{scheme.upper()}_PROXY: found no address of a proxy, expected http://[USER:PASSWORD@]HOST[:PORT]"
                "\n  in USER and PASSWORD % and / @ : # ? are written as %25 %2F %40 %3A %23 %3F"
            ) from None
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        known = f"Basic {b64encode(login).decode()}" if "@" in parts.netloc else ""
        return Proxy(f"{parts.scheme}://{host_of(parts.geturl())}", known)

    def is_insecure(self, host: str) -> bool:
        """Whether the user has said that HOST[:PORT] need not prove who it is."""
        return host.lower() in (each.lower() for each in self.insecure)


def checked(url: str) -> str:
    """Return `url` if it is one of HTTP; raise PublishError otherwise, without showing it: who knows what is in it."""
    try:
        parts = urlsplit(url)
        if parts.scheme in PORTS and parts.hostname and parts.port != 0:
            return url
    except ValueError:  # brackets or a port that are none
        pass
    raise PublishError("found no URL where a server named one, expected https://HOST[:PORT]/…")


def seen_from(base: str, target: str, name: str) -> str:
    """The URL that `target` is, seen from the URL `base`; PublishError, with the header's `name`, if it is none."""
    try:
        return checked(urljoin(base, target))
    except (ValueError, PublishError):
        raise PublishError(f"{host_of(base)}: found a {name} in its answer that is no URL") from None


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def redacted(url: str) -> str:
    """The URL without user, query and fragment, in any of which a secret may stand."""
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


def _is_exempt(url: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names the URL's host, as Go reads it."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    return any(_names(rule.strip().lower(), parts.hostname or "", port) for rule in no_proxy.split(",") if rule.strip())


def _names(rule: str, name: str, port: int) -> bool:
    """A rule is `*`, a name and all below it, `.NAME` for what is below alone, an address, or a network; [:PORT]."""
    from ipaddress import ip_address, ip_network

    target, wanted = rule, ""
    if rule.count(":") == 1 or "]:" in rule:
        target, _, wanted = rule.rpartition(":")
    if wanted not in ("", str(port)):
        return False
    try:
        address = ip_address(name)
    except ValueError:
        below = target.removeprefix("*")
        return rule == "*" or name == target or (bool(below) and name.endswith("." + below.removeprefix(".")))
    try:
        return rule == "*" or address in ip_network(target.strip("[]"), strict=False)
    except ValueError:
        return False


def _load(path: Path, load: Callable[[], None]) -> None:
    import ssl

    try:
        load()
    except ssl.SSLError as error:
        raise PublishError(f"{path}: found no certificate and key in PEM that go together: {error.reason}") from None
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from None
