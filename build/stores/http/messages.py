"""Requests and responses as values (RFC 9110, 6)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from build.oci.descriptor import Blob
from build.oci.media_types import LARGEST_MANIFEST
from build.stores.http.urls import redacted

# Characters of a server's own words that are shown.
_LONGEST = 500

Body = bytes | Blob | None


@dataclass(frozen=True)
class Request:
    """An HTTP request, and at most how many bytes of the answer's body are read.

    The body of a 200 goes to `receive`, chunk by chunk, if that is given. With `secret`, the body contains credentials.
    """

    method: str
    url: str
    body: Body = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    most: int = LARGEST_MANIFEST
    receive: Callable[[bytes], object] | None = field(default=None, repr=False)
    secret: bool = False

    def __str__(self) -> str:
        return f"{self.method} {redacted(self.url)}"


@dataclass(frozen=True)
class Response:
    """A server's answer: its URL after redirects, headers by lower-case name, its body unless that went elsewhere."""

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]
    data: bytes = field(repr=False)


def refusal(request: Request, response: Response) -> str:
    """One line for an unexpected response: the request, and `answered`."""
    return f"{request}: {answered(response)}"


def answered(response: Response) -> str:
    """The status of a response, and the registry's own code and message if it sent any."""
    try:
        errors = json.loads(response.data)["errors"]
        words = "; ".join(f"{each.get('code')}: {each.get('message')}" for each in errors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = response.reason
    shown = "".join(each if each.isprintable() else " " for each in words)
    return f"{response.status} {' '.join(shown.split())[:_LONGEST]}".rstrip()


def size_of(body: Body) -> int:
    """The number of bytes in a body."""
    return body.size if isinstance(body, Blob) else len(body or b"")
