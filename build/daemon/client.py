"""The Docker daemon: how to reach it, and what its failures mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from build import trace
from build.errors import BuildError
from build.stores.registry.trust import redacted

if TYPE_CHECKING:
    from docker import APIClient
    from requests import Response

# Seconds for one answer; a build or a push goes on saying something.
PATIENCE = 120
WITHOUT = "start one, set DOCKER_HOST, or do without: --engine embedded --compiler zig"


def connect(environment: Mapping[str, str]) -> APIClient:
    """A client of the daemon of DOCKER_HOST, or else of the current docker context; BuildError if none answers."""
    import docker

    with explained("the daemon"):
        client = docker.from_env(environment=dict(environment), timeout=PATIENCE, use_ssh_client=True)
        client.api.hooks["response"].append(_traced)
        client.ping()
        return client.api


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what docker-py raises while `doing` something into one BuildError."""
    from docker import errors
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError  # docker-py reads streams past requests

    try:
        yield
    except errors.APIError as error:
        raise BuildError(f"{doing}: {_words(error.explanation or str(error))}") from None
    except (errors.DockerException, RequestException, HTTPError, OSError) as error:
        raise BuildError(f"{doing}: {_cause(error)}") from None


def followed(lines: Iterable[Mapping[str, Any]], doing: str) -> Iterator[Mapping[str, Any]]:
    """The decoded lines of a stream; BuildError at the first that bears an error: a status of 200 promises nothing."""
    with explained(doing):
        for line in lines:
            if "error" in line or "errorDetail" in line:
                raise BuildError(f"{doing}: {_words(str(line.get('error') or line['errorDetail']))}")
            yield line


def build_toolchain(client: APIClient, dockerfile: bytes, name: str, report: Callable[[str], None]) -> str:
    """Build the image `name` (NAME:TAG) from a Dockerfile without files; return its id. Its steps go to `report`."""
    import io

    doing = f"{name}: docker build"
    with explained(doing):
        lines = client.build(fileobj=io.BytesIO(dockerfile), tag=name, rm=True, forcerm=True, decode=True)
    for line in followed(lines, doing):
        said = str(line.get("stream", "")).strip()
        if said:
            report(said)
    found = inspected(client, name)
    if found is None:
        raise BuildError(f"{doing}: the daemon ended without an image")
    return str(found["Id"])


def inspected(client: APIClient, name: str) -> dict[str, Any] | None:
    """What the daemon knows of the image `name`, or None if it has none."""
    from docker.errors import ImageNotFound

    with explained(name):
        try:
            found: dict[str, Any] = client.inspect_image(name)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None
    return found


def _traced(answer: Response, **_: object) -> None:
    request = answer.request
    sent = len(request.body) if isinstance(request.body, bytes | str) else None
    seconds = answer.elapsed.total_seconds()
    trace.exchange(f"{request.method} {redacted(str(request.url))}", answer.status_code, sent, None, seconds)


def _words(said: str) -> str:
    hint = "\n  make room where the daemon keeps its data: docker system df" if "no space left" in said else ""
    return said.strip() + hint


def _cause(error: BaseException) -> str:
    """The system's reason, which docker-py wraps several times over."""
    from urllib3.exceptions import ProtocolError

    chain: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and each not in chain:
            chain.append(each)
            waiting += [each.__cause__, each.__context__, *each.args]
    if any(isinstance(each, PermissionError) for each in chain):
        return "no permission on the daemon's socket\n  join the group docker, be root, or run rootless: DOCKER_HOST"
    if any(isinstance(each, FileNotFoundError | ConnectionRefusedError) for each in chain):
        return f"no Docker daemon answers\n  {WITHOUT}"
    if any(isinstance(each, ConnectionError | ProtocolError) for each in chain):
        return "the Docker daemon went away\n  see its log, and run this again"
    return f"{error}\n  {WITHOUT}"
