"""What the user says about how registries are reached."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from build.errors import PublishError
from build.report import Report, silent
from build.stores.http.urls import checked, host_of, is_loopback


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
