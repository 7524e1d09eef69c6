"""What goes wrong on the way to a registry, in one line each, and whether it may pass.

No secret is in such a line: URLs are shown without user, query and fragment, bodies and headers not at all.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import IncompleteRead

from urllib3 import exceptions as lost

from build.errors import PublishError
from build.trust import redacted

# Of a server's own words: characters.
LONGEST = 500


@dataclass(frozen=True)
class Answer:
    """A server's answer, with its body, which is no longer than was asked for."""

    status: int
    reason: str | None
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


class TransientError(PublishError):
    """A failure that may pass; `wait` is how long its server wants to be left alone (seconds), if it says so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def refusal(method: str, url: str, answer: Answer) -> str:
    """One line for an answer that is not the expected one: the registry's own code and words if it gave any."""
    try:
        errors = json.loads(answer.data)["errors"]
        words = "; ".join(f"{each.get('code')}: {each.get('message')}" for each in errors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = answer.reason or ""
    shown = "".join(each if each.isprintable() else " " for each in words)  # a terminal obeys what is not
    return f"{method} {redacted(url)}: {answer.status} {' '.join(shown.split())[:LONGEST]}".rstrip()


def explained(what: str, host: str, error: Exception) -> PublishError:
    """What an exception of urllib3's means, and whether it may pass."""
    causes = _causes(error)
    for cause in causes:
        if words := _for_good(cause, host):
            return PublishError(f"{what}: {words}")
    return TransientError(f"{what}: {_words(error, causes)}")


def _for_good(cause: BaseException, host: str) -> str | None:
    """What is wrong and what to do, if trying again is of no use."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"{host} shows a certificate that is not believed: {cause.verify_message}"
            f"\n  put its authority into certs.d/{host}/ca.crt where Docker looks, or: --insecure-registry {host}"
        )
    reason = (cause.reason or "") if isinstance(cause, ssl.SSLError) else ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"{host} speaks plain HTTP\n  if that is meant: --insecure-registry {host}"
    if "ALERT" in reason:
        wanted = f"certs.d/{host}/client.cert and client.key"
        return f"{host} refuses us: {reason}\n  it may want a certificate of ours where Docker looks: {wanted}"
    if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
        return (
            f"no such host: {cause.strerror}"
            f"\n  see whether {host} is spelled as it is meant, and whether this machine needs HTTPS_PROXY"
        )
    if str(cause).startswith("Tunnel connection failed: 4"):
        return proxy_refuses("https", str(cause).removeprefix("Tunnel connection failed: "))
    return "no address to go to" if isinstance(cause, lost.LocationValueError) else None


def proxy_refuses(scheme: str, words: str) -> str:
    """What a proxy says, and for a 407 where its password goes."""
    variable = f"{scheme.upper()}_PROXY"
    known = f"\n  it wants to know who we are: {variable}=http://USER:PASSWORD@HOST:PORT" if words[:3] == "407" else ""
    return f"the proxy refuses: {words}{known}"


def _words(error: Exception, causes: Sequence[BaseException]) -> str:
    if any(isinstance(cause, lost.IncompleteRead | IncompleteRead | lost.InvalidChunkLength) for cause in causes):
        return "the answer was cut short"
    if isinstance(error, lost.ConnectTimeoutError) and not isinstance(error, lost.NewConnectionError):
        return "no connection in time"
    if isinstance(error, lost.ReadTimeoutError):
        return "no answer in time"
    told = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
    return next(told, None) or str(causes[-1] if causes else error)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            waiting += [each.__cause__, each.__context__, getattr(each, "original_error", None), *each.args]
    return found
