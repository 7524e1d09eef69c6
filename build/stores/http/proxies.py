"""Proxies: HTTP_PROXY, HTTPS_PROXY and NO_PROXY mean what they mean to Docker."""

from __future__ import annotations

from urllib.parse import urlsplit

from build.errors import PublishError
from build.stores.http.access import Access
from build.stores.http.urls import PORTS, checked, host_of, is_loopback


def proxy_for(access: Access, url: str) -> str | None:
    """The URL of the proxy for `url`, password included, or None; raise PublishError if its variable is invalid."""
    scheme = urlsplit(url).scheme
    value = access.proxies.get(scheme)
    if not value or is_loopback(host_of(url)) or _is_exempt(url, access.proxies.get("no", "")):
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
