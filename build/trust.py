"""How a host is reached: in plain HTTP or not, whose certificates are believed, and through which proxy.

`certs.d` folders are Docker's: one by the name of HOST[:PORT] holds `*.crt` (authorities) and pairs of `*.cert` and
`*.key` (who we are). HTTP_PROXY, HTTPS_PROXY and NO_PROXY mean what they mean to Docker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from build.errors import PublishError

if TYPE_CHECKING:
    from ssl import SSLContext


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
        return is_loopback(host) or host in self.insecure

    def check(self, url: str) -> None:
        """Raise PublishError if what goes to `url` could be read or changed on its way."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and self.may_be_plain(host_of(url))):
            raise PublishError(
                f"{parts.scheme}://{host_of(url)}: expected https, as nothing is sent in the open"
                f"\n  if the way there is safe: --insecure-registry {host_of(url)}"
            )

    def context(self, host: str) -> SSLContext:
        """The TLS settings for HOST[:PORT]: the system's authorities, and those of its `certs.d` folders."""
        import ssl

        context = ssl.create_default_context()
        if host in self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for folder in (base / host for base in self.certificates):
            for path in sorted(folder.glob("*.crt")):
                _load(path, partial(context.load_verify_locations, path))
            for path in sorted(folder.glob("*.cert")):
                key = path.with_suffix(".key")
                if not key.is_file():
                    raise PublishError(f"{path}: found no {key.name} beside it, expected the certificate's key")
                _load(path, partial(context.load_cert_chain, path, key))
        return context

    def proxy(self, url: str) -> str | None:
        """The proxy for `url`, or None."""
        parts, proxies = urlsplit(url), self.proxies
        proxy = proxies.get(parts.scheme)
        if not proxy or is_loopback(host_of(url)):
            return None
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

        if proxy_bypass_environment(host_of(url), dict(proxies)):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def seen_from(base: str, target: str, name: str) -> str:
    """The URL that `target` is, seen from the URL `base`; PublishError, with the header's `name`, if it is none."""
    try:
        url = urljoin(base, target)
        _ = urlsplit(url).port  # is read only now
    except ValueError:
        raise PublishError(f"{host_of(base)}: found a {name} in its answer that is no URL") from None
    return url


def is_loopback(host: str) -> bool:
    """Whether HOST[:PORT] is this machine, whatever a resolver says."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name in ("localhost", "[::1]") or name.startswith("127.")


def _load(path: Path, load: Callable[[], None]) -> None:
    import ssl

    try:
        load()
    except ssl.SSLError as error:
        raise PublishError(f"{path}: found no certificate and key in PEM that go together: {error.reason}") from None
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from None
