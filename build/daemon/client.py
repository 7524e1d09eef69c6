"""The one door to docker-py: every call runs in a thread, with a deadline, and fails with one message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from build.daemon.errors import INSTEAD, explained, words
from build.errors import BuildError
from build.report import trace_request
from build.system import finish

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

T = TypeVar("T")
Line = Mapping[str, Any]

# Seconds for one answer. Builds and pushes keep sending lines.
PATIENCE = 120
# Seconds to undo what a cancelled run has created; a healthy daemon needs a fraction of one.
_UNDO = 5
# Builds, pushes and pulls at a time. asyncio has five threads at least, and short calls are not to wait for one.
_STREAMS = 3


async def connect(environment: Mapping[str, str], instead: str = INSTEAD) -> Daemon:
    """The daemon of DOCKER_HOST, else of the current docker context; raise BuildError if none answers.

    `instead` are the flags to do without one.
    """

    def connected() -> APIClient:
        import docker

        _read_config_leniently()
        client = docker.from_env(environment=dict(environment), timeout=PATIENCE, use_ssh_client=True)
        client.api.hooks["response"].append(_trace)
        client.ping()
        return client.api

    return Daemon(await _in_thread("the daemon", connected, PATIENCE, instead))


def _read_config_leniently() -> None:
    """Have docker-py, which reads config.json whenever it is used, skip the entries of `auths` that it can't read.

    Raises BuildError if the file is not a JSON object.
    """
    from docker import auth
    from docker.errors import DockerException
    from docker.utils import config

    class AuthConfig(auth.AuthConfig):
        @classmethod
        def parse_auth(cls, entries: Any, raise_on_error: bool = False) -> dict[str, Any]:
            parsed: dict[str, Any] = {}
            for key in entries if isinstance(entries, dict) else ():
                with suppress(DockerException, ValueError, TypeError, AttributeError):
                    parsed |= super().parse_auth({key: entries[key]}, raise_on_error)
            return parsed

    auth.AuthConfig = AuthConfig  # type: ignore[misc]
    try:
        is_object = isinstance(config.load_general_config(), dict)
    except RecursionError:
        is_object = False
    if not is_object:
        raise BuildError(
            f"{config.find_config_file()!s}: not valid JSON, expected an object in UTF-8"
            "\n  repair it, or remove it and log in again"
        )


@dataclass(frozen=True)
class Daemon:
    """A Docker daemon. Its methods raise BuildError. Requests of a method that is cancelled go on; see `created`."""

    api: APIClient
    _streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STREAMS), repr=False, compare=False)

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

        async with self._streams:
            return await _in_thread(doing, lambda: list(lines()), timeout=None)

    @asynccontextmanager
    async def created(
        self, creation: Coroutine[Any, Any, T], removing: str, remove: Callable[[APIClient], object]
    ) -> AsyncIterator[T]:
        """The result of `creation`, which creates something here; `remove` is called when the context ends.

        It is called if the creation fails or is cancelled, too, and first waits for it: its requests go on, and would
        create something after the removal. After a cancellation this takes a few seconds at most, even if the daemon
        hangs. Messages about the removal begin with `removing`.
        """
        task, patience = asyncio.create_task(creation), float(PATIENCE)
        try:
            yield await asyncio.shield(task)
        except asyncio.CancelledError:
            patience = _UNDO
            raise
        finally:
            await finish(self._removed(task, removing, remove, patience))

    async def _removed(
        self, creation: asyncio.Task[T], removing: str, remove: Callable[[APIClient], object], patience: float
    ) -> None:
        try:
            async with asyncio.timeout(patience):
                await asyncio.wait({creation})  # a failure has been raised already
                await self.call(removing, remove)
        except TimeoutError:
            raise _no_answer(removing, patience) from None
        finally:
            creation.cancel()
            await asyncio.gather(creation, return_exceptions=True)

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


async def _in_thread(doing: str, function: Callable[[], T], timeout: float | None, instead: str = INSTEAD) -> T:
    def explaining() -> T:
        with explained(doing, instead):
            return function()

    try:
        async with asyncio.timeout(timeout):
            return await asyncio.to_thread(explaining)
    except TimeoutError:
        raise _no_answer(doing, timeout or 0) from None


def _no_answer(doing: str, seconds: float) -> BuildError:
    return BuildError(f"{doing}: the Docker daemon has not answered in {seconds:g} s\n  see its log, and retry")


def _trace(response: Response, **_: object) -> None:
    request = response.request
    parts = urlsplit(str(request.url))
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    sent = len(request.body) if isinstance(request.body, bytes | str) else None
    trace_request(f"{request.method} {url}", response.status_code, sent, None, response.elapsed.total_seconds())
