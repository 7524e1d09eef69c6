"""What goes wrong on the way to a registry, in one line each, and whether it may pass.

No secret is in such a line: URLs are shown without user, query and fragment, bodies and headers not at all.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from build.errors import PublishError
from build.stores.registry.trust import redacted

# Of a server's own words: characters.
LONGEST = 500


@dataclass(frozen=True)
class Answer:
    """A server's answer: headers by their names in lower case, and its body, no longer than was asked for."""

    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


class TransientError(PublishError):
    """A failure that may pass; `wait` is how long its server wants to be left alone (seconds), if it says so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class CutShortError(Exception):
    """An answer that ends before its end."""


class TooLargeError(Exception):
    """An answer with more bytes than were asked for."""


class TunnelError(Exception):
    """A proxy that does not let us through: the status of its answer, and its words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}".rstrip())
        self.status = status


def refusal(method: str, url: str, answer: Answer) -> str:
    """One line for an answer that is not the expected one: the registry's own code and words if it gave any."""
    try:
        errors = json.loads(answer.data)["errors"]
        words = "; ".join(f"{each.get('code')}: {each.get('message')}" for each in errors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = answer.reason
    shown = "".join(each if each.isprintable() else " " for each in words)  # a terminal obeys what is not
    return f"{method} {redacted(url)}: {answer.status} {' '.join(shown.split())[:LONGEST]}".rstrip()


def explained(what: str, host: str, error: Exception) -> PublishError:
    """What an exception of an exchange means, and whether it may pass."""
    if words := _for_good(error, host):
        return PublishError(f"{what}: {words}")
    return TransientError(f"{what}: {_words(error)}")


def _for_good(error: Exception, host: str) -> str | None:
    """What is wrong and what to do, if trying again is of no use."""
    if isinstance(error, TunnelError) and 400 <= error.status < 500:
        return proxy_refuses("https", str(error))
    if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
        return (
            f"no such host: {error.strerror}"
            f"\n  see whether {host} is spelled as it is meant, and whether this machine needs HTTPS_PROXY"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{host} shows a certificate that is not believed: {error.verify_message}"
            f"\n  put its authority into certs.d/{host}/ca.crt where Docker looks, or: --insecure-registry {host}"
        )
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"{host} speaks plain HTTP\n  if that is meant: --insecure-registry {host}"
    if "ALERT" in reason:
        wanted = f"certs.d/{host}/client.cert and client.key"
        return f"{host} refuses us: {reason}\n  it may want a certificate of ours where Docker looks: {wanted}"
    return None


def proxy_refuses(scheme: str, words: str) -> str:
    """What a proxy says, and for a 407 where its password goes."""
    variable = f"{scheme.upper()}_PROXY"
    known = f"\n  it wants to know who we are: {variable}=http://USER:PASSWORD@HOST:PORT" if words[:3] == "407" else ""
    return f"the proxy refuses: {words}{known}"


def _words(error: Exception) -> str:
    if isinstance(error, CutShortError):
        return "the answer was cut short"
    if isinstance(error, TunnelError):
        return proxy_refuses("https", str(error))
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
        return os.strerror(error.errno or 0)  # asyncio has words of its own
    if isinstance(error, OSError):
        return error.strerror or str(error) or "no answer in time"
    return f"the answer is no HTTP: {error}"
