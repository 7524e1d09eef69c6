"""What goes wrong on the way to a registry, in one line each, and whether a retry may help.

These lines contain no secret: URLs are shown without user, query and fragment; bodies and headers are not shown.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from build.errors import PublishError
from build.stores.registry.access import redacted

if TYPE_CHECKING:
    from build.stores.registry.http import Response

# Characters of a server's own words.
LONGEST = 500


class TransientError(PublishError):
    """A failure that may go away; `wait` is the number of seconds that the server asks to wait, if it does."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def refusal(method: str, url: str, response: Response) -> str:
    """One line for an unexpected response, with the registry's own code and message if it sent any."""
    try:
        errors = json.loads(response.data)["errors"]
        words = "; ".join(f"{each.get('code')}: {each.get('message')}" for each in errors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = response.reason
    shown = "".join(each if each.isprintable() else " " for each in words)
    return f"{method} {redacted(url)}: {response.status} {' '.join(shown.split())[:LONGEST]}".rstrip()


def explained(what: str, host: str, error: Exception) -> PublishError:
    """The meaning of an exception during a request: TransientError if a retry may help."""
    causes = list(_causes(error))
    if words := _permanent(causes, host):
        return PublishError(f"{what}: {words}")
    return TransientError(f"{what}: {_words(causes)}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and everything that led to it, the outermost first."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        waiting.append(each.__cause__ or each.__context__)


def _permanent(causes: list[BaseException], host: str) -> str | None:
    """What is wrong and what to do, if a retry is of no use."""
    for error in causes:
        if type(error).__name__ == "ProxyError" and str(error)[:1] == "4":
            return proxy_refusal("https", str(error))
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
            return (
                f"no such host: {error.strerror}"
                f"\n  check the spelling of {host}, and whether this machine needs HTTPS_PROXY"
            )
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{host}: certificate verification failed: {error.verify_message}"
                f"\n  add its CA as certs.d/{host}/ca.crt where Docker looks, or: --insecure-registry {host}"
            )
        reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
        if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return f"{host} speaks plain HTTP\n  if that is intended: --insecure-registry {host}"
        if "ALERT" in reason:
            wanted = f"certs.d/{host}/client.cert and client.key"
            return f"{host} refuses the connection: {reason}\n  it may require a client certificate: {wanted}"
    return None


def proxy_refusal(scheme: str, words: str) -> str:
    """A proxy's own words, and for a 407 where its password goes."""
    variable = f"{scheme.upper()}_PROXY"
    hint = f"\n  it requires credentials: {variable}=http://USER:PASSWORD@HOST:PORT" if words[:3] == "407" else ""
    return f"the proxy refuses: {words}{hint}"


def _words(causes: list[BaseException]) -> str:
    names = {type(error).__name__ for error in causes}
    if any(isinstance(error, TimeoutError) for error in causes) or any("Timeout" in name for name in names):
        return "no connection in time" if {"ConnectTimeout"} & names else "no answer in time"
    for error in causes:
        if type(error).__name__ == "ProxyError":
            return proxy_refusal("https", str(error))
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
            return os.strerror(error.errno or 0)
    if "RemoteProtocolError" in names and not any("disconnected" in str(e) or "closed" in str(e) for e in causes):
        return f"the answer is not HTTP: {causes[0]}"
    if names & {"RemoteProtocolError", "ReadError", "EndOfStream", "BrokenResourceError", "IncompleteRead"}:
        return "the answer was cut short"
    return str(causes[0]) or type(causes[0]).__name__
