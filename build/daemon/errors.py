"""What docker-py's exceptions mean, in one message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from build.errors import BuildError
from build.report import indented

# How to do without a daemon: to build, and to verify.
INSTEAD = "--engine embedded --compiler zig"
INSTEAD_OF_DRIVER = "--with namespaces"


@contextmanager
def explained(doing: str, instead: str = INSTEAD) -> Iterator[None]:
    """Turn what docker-py raises while `doing` something into one BuildError; `instead` are the flags without it."""
    from docker import errors
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError  # docker-py reads streams past requests

    try:
        yield
    except errors.APIError as error:
        raise BuildError(f"{doing}: {words(error.explanation or str(error))}") from None
    except (errors.DockerException, RequestException, HTTPError, OSError) as error:
        raise BuildError(f"{doing}: {_cause(error, instead)}") from None


def words(text: str) -> str:
    """The daemon's own words, and a remedy where there is one."""
    hint = "\n  free some space where the daemon keeps its data: docker system df" if "no space left" in text else ""
    return indented(text) + hint


def _cause(error: BaseException, instead: str) -> str:
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
    remedy = f"start it, set DOCKER_HOST, or use no daemon: {instead}"
    if any(isinstance(each, FileNotFoundError | ConnectionRefusedError) for each in chain):
        return f"no Docker daemon is running\n  {remedy}"
    if any(isinstance(each, ConnectionError | ProtocolError) for each in chain):
        return "the Docker daemon went away\n  see its log, and retry"
    return f"{indented(str(error))}\n  {remedy}"
