"""The one door to docker-py: every call runs in a thread, with a deadline, and fails with one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from build.daemon.errors import explained, words
from build.errors import BuildError
from build.report import trace_request

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

T = TypeVar("T")
Line = Mapping[str, Any]

# Seconds for one answer. Builds and pushes keep sending lines.
PATIENCE = 120


async def connect(environment: Mapping[str, str]) -> Daemon:
    """The daemon of DOCKER_HOST, else of the current docker context; raise BuildError if none answers."""

    def connected() -> APIClient:
        import docker

        client = docker.from_env(environment=dict(environment), timeout=PATIENCE, use_ssh_client=True)
        client.api.hooks["response"].append(_trace)
        client.ping()
        return client.api

    return Daemon(await _in_thread("the daemon", connected, PATIENCE))


@dataclass(frozen=True)
class Daemon:
    """A Docker daemon. Its methods raise BuildError; what runs in a thread when they are cancelled runs to its end."""

    api: APIClient

    async def call(self, doing: str, function: Callable[[APIClient], T], timeout: float = PATIENCE) -> T:
        """The result of `function`, which gets docker-py's client; messages begin with `doing`."""
        return await _in_thread(doing, lambda: function(self.api), timeout)

    async def stream(
        self,
        doing: str,
        function: Callable[[APIClient], Iterable[Line]],
        report: Callable[[Line], None] | None = None,
    ) -> list[Line]:
        """The decoded lines of a stream, each passed to `report` as it comes.

        Raises BuildError at the first line with an error, because a status of 200 promises nothing.
        """
        loop = asyncio.get_running_loop()

        def lines() -> Iterator[Line]:
            for line in function(self.api):
                if "error" in line or "errorDetail" in line:
                    raise BuildError(f"{doing}: {words(str(line.get('error') or line['errorDetail']))}")
                if report:
                    loop.call_soon_threadsafe(report, line)
                yield line

        return await _in_thread(doing, lambda: list(lines()), timeout=None)

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """What the daemon knows about an image, or None if it has no such image."""

        def inspected(api: APIClient) -> dict[str, Any] | None:
            from docker.errors import ImageNotFound

            try:
                found: dict[str, Any] = api.inspect_image(name)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
            return found

        return await self.call(name, inspected)


async def _in_thread(doing: str, function: Callable[[], T], timeout: float | None) -> T:
    def explaining() -> T:
        with explained(doing):
            return function()

    try:
        async with asyncio.timeout(timeout):
            return await asyncio.to_thread(explaining)
    except TimeoutError:
        raise BuildError(f"{doing}: the Docker daemon has not answered in {timeout:g} s") from None


def _trace(response: Response, **_: object) -> None:
    request = response.request
    parts = urlsplit(str(request.url))
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    sent = len(request.body) if isinstance(request.body, bytes | str) else None
    trace_request(f"{request.method} {url}", response.status_code, sent, None, response.elapsed.total_seconds())
