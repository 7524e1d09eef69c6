"""What goes wrong on the way to a registry: one line for each failure, without a secret, and whether it may go away."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from build.errors import PublishError
from build.stores.http.urls import host_of

# How often what is more likely to stay, such as damaged content, is tried.
TRIES = 7
# Libraries whose exceptions mean that the other side does not keep to HTTP/2 or SOCKS.
_PROTOCOLS = ("h2", "hpack", "hyperframe", "socksio")
# Words of httpcore2 for a connection, or a stream of HTTP/2, that the other side has ended.
_ENDED = ("disconnected", "closed", "<ConnectionTerminated", "<StreamReset")
# OpenSSL's reasons for what is not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
# Characters of an exception's words that are shown.
_LONGEST = 200


class TransientError(PublishError):
    """A failure that may go away; `wait` is the number of seconds that the server asks to wait, if it does."""

    # How often it is retried at most, while there is time.
    tries = TRIES

    def __init__(self, message: str, reason: str = "", wait: float | None = None, status: int = 0) -> None:
        super().__init__(message, reason)
        self.wait, self.status = wait, status


class UnavailableError(TransientError):
    """The registry, or the way to it, is not available at the moment: retried for as long as there is time."""

    tries = sys.maxsize


class NotVisibleError(UnavailableError):
    """What was pushed can't be seen yet: some registries take their time."""


class PlainHTTPError(PublishError):
    """A server does not speak TLS."""


def explained(what: str, url: str, proxy: str | None, error: Exception) -> PublishError:
    """The meaning of an exception during a request to `url`: TransientError if a retry may help."""
    kind, words = _meaning(error, url, proxy)
    return kind(f"{what}: {words}", f"{host_of(url)}: {words}")


def _meaning(error: Exception, url: str, proxy: str | None) -> tuple[type[PublishError], str]:
    causes, host = list(_causes(error)), host_of(url)
    if breaks_protocol(error):
        return TransientError, f"the answer is not HTTP: {_line(causes[-1])}"
    if type(error).__name__ == "RemoteProtocolError" and not any(word in str(e) for e in causes for word in _ENDED):
        return TransientError, f"the answer is not HTTP: {_line(error)}"
    if type(error).__name__ == "LocalProtocolError":
        return PublishError, f"can't be sent: {_line(error)}"
    if any(isinstance(each, ssl.SSLError) and each.reason in _NOT_TLS for each in causes):
        return PlainHTTPError, f"{host} speaks plain HTTP\n  if that is intended: --insecure-registry {host}"
    if words := _permanent(causes, url, proxy):
        return PublishError, words
    return UnavailableError, _words(causes)


def breaks_protocol(error: Exception) -> bool:
    """Whether a server, or a SOCKS proxy, said what the libraries have no meaning for.

    They let some of their own exceptions through, and what Python raises for a status that is no number.
    """
    packages = {type(each).__module__.partition(".")[0] for each in _causes(error)}
    return not packages.isdisjoint(_PROTOCOLS) or (
        isinstance(error, ValueError | AssertionError) and not isinstance(error, UnicodeError)
    )


def _line(error: BaseException) -> str:
    """The words of an exception in one short line."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


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


def _permanent(causes: list[BaseException], url: str, proxy: str | None) -> str | None:
    """What is wrong and what to do, if a retry is of no use."""
    host = host_of(url)
    for error in causes:
        if proxy and type(error).__name__ == "ProxyError" and (_asks_for_password(error) or str(error)[:1] == "4"):
            return proxy_refusal(url, proxy, str(error))
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
            # With a proxy, the only name that this machine resolves is the proxy's.
            hint = "" if proxy else ", and whether this machine needs HTTPS_PROXY"
            return f"no such host: {error.strerror}\n  check the spelling of {host_of(proxy or url)}{hint}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{host}: certificate verification failed: {error.verify_message}"
                f"\n  add its CA as certs.d/{host}/ca.crt where Docker looks, or: --insecure-registry {host}"
            )
        reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
        if "ALERT" in reason:
            wanted = f"certs.d/{host}/client.cert and client.key"
            return f"{host} refuses the connection: {reason}\n  it may require a client certificate: {wanted}"
    return None


def proxy_refusal(url: str, proxy: str, words: str) -> str:
    """A proxy's own words about a request to `url`, and where its password goes if that is what it asks for."""
    wanted = f"{urlsplit(url).scheme.upper()}_PROXY={urlsplit(proxy).scheme}://USER:PASSWORD@HOST:PORT"
    hint = f"\n  it requires credentials: {wanted}" if _asks_for_password(words) else ""
    return f"the proxy refuses: {words}{hint}"


def _asks_for_password(words: object) -> bool:
    """Whether a proxy refuses for want of the right password: HTTP's status, or what httpcore2 says of SOCKS."""
    return str(words).startswith(("407", "Invalid username/password", "Requested "))


def _words(causes: list[BaseException]) -> str:
    names = {type(error).__name__ for error in causes}
    if any(isinstance(error, TimeoutError) for error in causes) or any("Timeout" in name for name in names):
        return "no connection in time" if {"ConnectTimeout"} & names else "no answer in time"
    for error in causes:
        if isinstance(error, socket.gaierror):
            return f"no name server answers: {error.strerror}"
        if type(error).__name__ == "ProxyError":
            return f"the proxy refuses: {error}"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and (error.errno or 0) > 0:
            return os.strerror(error.errno or 0)
    if names & {"RemoteProtocolError", "ReadError", "EndOfStream", "BrokenResourceError", "IncompleteRead"}:
        return "the answer was cut short"
    return str(causes[0]) or type(causes[0]).__name__
