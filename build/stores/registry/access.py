"""How hosts are reached: plain HTTP or TLS, trusted certificates, and proxies.

The folders `certs.d` are Docker's: the one named HOST[:PORT] holds `*.crt` (certificate authorities) and pairs of
`*.cert` and `*.key` (client certificates). HTTP_PROXY, HTTPS_PROXY and NO_PROXY mean what they mean to Docker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from build.errors import PublishError
from build.report import Report, silent

if TYPE_CHECKING:
    from ssl import SSLContext

PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True)
class Variable:
    """An environment variable; its value is never shown."""

    name: str
    value: str = field(repr=False)

    def __str__(self) -> str:
        return self.name


# Where credentials may be: a file, or a variable that contains what such a file does.
Source = Path | Variable


@dataclass(frozen=True)
class Access:
    """What the user's machine and command line say about registries.

    `credentials` are searched in their order; `certificates` are the folders `certs.d`; `proxies` has the values of the
    proxy variables by `http`, `https` and `no`; `insecure` are hosts (HOST[:PORT]) for which neither TLS nor a trusted
    certificate is required. `timeout` is the number of seconds that all requests may take, waiting included; `parallel`
    the largest number of requests in flight to a registry, or None for one that suits it. `report` learns of long
    waits.
    """

    credentials: Sequence[Source] = ()
    certificates: tuple[Path, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: Collection[str] = ()
    timeout: float = 300
    parallel: int | None = None
    report: Report = field(default=silent, repr=False)

    def may_be_plain(self, host: str) -> bool:
        """Whether plain HTTP to HOST[:PORT] is acceptable."""
        return is_loopback(host) or self.is_insecure(host)

    def is_insecure(self, host: str) -> bool:
        """Whether the user has listed HOST[:PORT] as insecure."""
        return host.lower() in (each.lower() for each in self.insecure)

    def check(self, url: str) -> None:
        """Raise PublishError if a request to `url` could be read or changed on its way."""
        parts = urlsplit(checked(url))
        if parts.scheme != "https" and not self.may_be_plain(host_of(url)):
            raise PublishError(
                f"{parts.scheme}://{host_of(url)}: expected https: nothing is sent unencrypted"
                f"\n  if the network is safe: --insecure-registry {host_of(url)}"
            )

    def tls(self, host: str) -> SSLContext:
        """The TLS settings for HOST[:PORT]: what the system trusts, and the certificates of its `certs.d` folders."""
        import ssl

        context = _trusting_system()
        # As in Docker: whatever is trusted ends a chain, an intermediate authority and a server's own certificate too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.is_insecure(host):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for folder in (base / host for base in self.certificates):
            for path in sorted(folder.glob("*.crt")):
                _load(path, partial(context.load_verify_locations, path))
            for path in sorted(folder.glob("*.cert")):
                key = path.with_suffix(".key")
                if not key.is_file():
                    raise PublishError(f"{path}: found no {key.name} beside it, expected the certificate's key")
                _load(path, partial(context.load_cert_chain, path, key, password=""))  # never prompt
        return context

    def proxy(self, url: str) -> str | None:
        """The URL of the proxy for `url`, password included, or None; raise PublishError if its variable is invalid."""
        scheme = urlsplit(url).scheme
        value = self.proxies.get(scheme)
        if not value or is_loopback(host_of(url)) or _is_exempt(url, self.proxies.get("no", "")):
            return None
        whole = value if "://" in value else f"http://{value}"
        try:
            parts = urlsplit(checked(whole, tuple(PORTS)))
            if parts.path.strip("/") or parts.query or parts.fragment:  # most likely the rest of a password
                raise ValueError
        except (PublishError, ValueError):
            raise PublishError(
                f"{scheme.upper()}_PROXY: found no address of a proxy, expected http://[USER:PASSWORD@]HOST[:PORT] or socks5h://…"
                "\n  in USER and PASSWORD, write % / @ : # ? as %25 %2F %40 %3A %23 %3F"
            ) from None
        return whole.rstrip("/")


def _trusting_system() -> SSLContext:
    """A context that trusts what the system trusts, and SSL_CERT_FILE and SSL_CERT_DIR."""
    import ssl
    import sys

    found = ssl.get_default_verify_paths()
    if sys.platform == "linux" and (found.cafile or any(Path(found.capath or "/dev/null").glob("*.0"))):
        return ssl.create_default_context()
    # The stores of macOS and Windows, or where Linux distributions have theirs if Python's OpenSSL looks elsewhere.
    import truststore

    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_default_verify_paths()
    return context


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


def _is_exempt(url: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host of the URL, as Go reads it."""
    parts = urlsplit(url)
    port = parts.port or PORTS[parts.scheme]
    rules = (rule.strip().lower() for rule in no_proxy.split(","))
    return any(_matches(rule, parts.hostname or "", port) for rule in rules if rule)


def _matches(rule: str, name: str, port: int) -> bool:
    """A rule is `*`, a domain and its subdomains, `.DOMAIN` for subdomains only, an address, or a network; [:PORT]."""
    from ipaddress import ip_address, ip_network

    target, wanted = rule, ""
    if rule.count(":") == 1 or "]:" in rule:
        target, _, wanted = rule.rpartition(":")
    if wanted not in ("", str(port)):
        return False
    try:
        address = ip_address(name)
    except ValueError:
        domain = target.removeprefix("*")
        return rule == "*" or name == target or (bool(domain) and name.endswith("." + domain.removeprefix(".")))
    try:
        return rule == "*" or address in ip_network(target.strip("[]"), strict=False)
    except ValueError:
        return False


def _load(path: Path, load: Callable[[], None]) -> None:
    import ssl

    try:
        load()
    except ssl.SSLError as error:
        raise PublishError(f"{path}: expected a matching certificate and key in PEM: {error.reason}") from None
    except OSError as error:
        raise PublishError(f"{path}: can't be read: {error.strerror}") from None
