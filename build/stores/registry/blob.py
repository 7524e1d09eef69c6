"""Blobs in a registry (distribution-spec, "Pulling blobs", "Pushing blobs"): streamed and hashed as they pass."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from build.errors import PublishError
from build.oci.descriptor import Blob, Descriptor
from build.oci.reference import Repository
from build.stores.http.failures import TransientError
from build.stores.http.messages import Body, Request, Response, refusal
from build.stores.http.urls import host_of, origin_of, redacted, resolved
from build.stores.registry.session import STORED, Session, told_digest
from build.stores.store import SMALL

# How a registry says that it does not know an upload any more (distribution-spec, "Error Codes": BLOB_UPLOAD_…).
_UPLOAD_IS_GONE = (400, 404, 416)
_SERVER_ERROR = 500
# Layers are compressed already.
_AS_IS = {"Accept-Encoding": "identity"}


async def pull_blob(session: Session, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:
    """The blob of a descriptor: in memory if small, else in a new file in `spool`."""
    path = f"blobs/{descriptor.digest}"

    async def pull() -> Blob:
        if descriptor.size <= SMALL:
            response = await session.send(
                repository, Request("GET", path, headers=_AS_IS, most=descriptor.size), (200,)
            )
            blob = Blob.of(descriptor.media_type, response.data)
        else:
            blob = await _spooled(session, repository, descriptor, spool)
        if blob.size != descriptor.size:
            url = redacted(session.url(repository, path))
            raise TransientError(f"{url}: found {blob.size} bytes, expected {descriptor.size}")
        session.agree(repository, path, blob.digest, descriptor.digest)
        return blob

    return await session.http.retries.retried(pull)


async def _spooled(session: Session, repository: Repository, descriptor: Descriptor, spool: Path) -> Blob:
    """What the registry has under the digest, in a new file in `spool`, hashed as it comes."""
    file, hashed, size = spool / os.urandom(8).hex(), hashlib.sha256(), 0

    def receive(chunk: bytes) -> None:
        nonlocal size
        hashed.update(chunk)
        size += len(chunk)
        with _writing(file):
            output.write(chunk)

    with _writing(file), file.open("wb") as output:
        path = f"blobs/{descriptor.digest}"
        request = Request("GET", path, headers=_AS_IS, most=descriptor.size, receive=receive)
        await session.send(repository, request, (200,))
    return Blob(descriptor.media_type, f"sha256:{hashed.hexdigest()}", size, file)


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """What fails here is not the registry, and not retried."""
    try:
        yield
    except OSError as error:
        raise PublishError(f"{file}: can't be written: {error.strerror}") from None


async def push_blob(
    session: Session, uploads: Uploads, repository: Repository, blob: Blob, mount_from: Repository | None
) -> int:
    """Store a blob, mounted from another repository if the registry agrees; return how many bytes were sent.

    Of content in a file, which is large or belongs to a base, it is first asked whether it is there: that takes less
    time than sending it, which is quicker for what is small.
    """

    in_file = isinstance(blob.source, Path)
    if in_file and not mount_from and await session.http.retries.retried(lambda: _is_there(session, repository, blob)):
        return 0
    ahead = "" if mount_from else await uploads.opened(repository)

    async def push() -> int:
        nonlocal ahead
        location, ahead = ahead, ""
        if not location:
            response = await mount(session, repository, blob, mount_from) if mount_from else None
            if response and _is_mounted(response):
                return 0
            if mount_from and in_file and await _is_there(session, repository, blob):
                return 0
            # Whatever else a registry says to a mount: the blob can still be uploaded.
            if not response or response.status != 202 or "location" not in response.headers:
                response = await start(session, repository)
            location = _location(session, repository, response)
        location += ("&" if urlsplit(location).query else "?") + "digest=" + quote(blob.digest, safe="")
        request = Request("PUT", location, _body(blob), {"Content-Type": "application/octet-stream"})
        stored = await session.send(repository, request, (*STORED, *_UPLOAD_IS_GONE))
        if stored.status not in STORED:
            raise TransientError(refusal(request, stored))  # uploads expire: start another one
        session.agree(repository, location, told_digest(stored), blob.digest)
        return blob.size

    return await session.http.retries.retried(push)


async def _is_there(session: Session, repository: Repository, blob: Blob) -> bool:
    """Whether the repository has a blob (distribution-spec, "Checking if content exists in the registry").

    Whatever else a registry says than that it has one of this size, the blob is sent.
    """
    request = Request("HEAD", f"blobs/{blob.digest}", headers=_AS_IS)
    try:
        response = await session.send(repository, request, (200, 404))
    except PublishError as error:
        if isinstance(error, TransientError) and error.status < _SERVER_ERROR:
            raise
        return False
    return response.status == 200 and response.headers.get("content-length") == str(blob.size)


def _body(blob: Blob) -> Body:
    return blob.source if isinstance(blob.source, bytes) else blob


async def start(session: Session, repository: Repository) -> Response:
    """Start an upload."""
    return await session.send(repository, Request("POST", "blobs/uploads/"), STORED)


async def mount(session: Session, repository: Repository, blob: Blob, source: Repository) -> Response | None:
    """The answer to mounting a blob from another repository; None if that is refused.

    Raises TransientError only if the registry can't be reached or asks to wait.
    """
    path = f"blobs/uploads/?mount={blob.digest}&from={quote(source.name, safe='')}"
    try:
        return await session.send(repository, Request("POST", path), STORED)
    except PublishError as error:
        if isinstance(error, TransientError) and error.status < _SERVER_ERROR:
            raise
        return None


def _is_mounted(response: Response) -> bool:
    """Whether the blob is in place; some registries start every upload with a 201."""
    return response.status == 201 and "/blobs/uploads/" not in response.headers.get("location", "")


def _location(session: Session, repository: Repository, started: Response) -> str:
    """Where an upload continues: relative, absolute, or on another host."""
    url = session.url(repository, "blobs/uploads/")
    if "location" not in started.headers:
        raise PublishError(f"POST {redacted(url)}: found no Location in the answer, expected an upload's")
    location = resolved(url, started.headers["location"], "Location")
    # A registry behind a proxy that terminates TLS may take the connection for plain HTTP.
    parts = urlsplit(location)
    secure = parts._replace(scheme="https", netloc=host_of(location).removesuffix(":80"))
    if parts.scheme == "http" and origin_of(secure.geturl()) == origin_of(session.origin):
        return secure._replace(netloc=host_of(session.origin)).geturl()
    return location


class Uploads:
    """Uploads that are started ahead, which saves a round trip for blobs that are still being made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._started: dict[Repository, list[asyncio.Task[str]]] = {}

    def open_ahead(self, repository: Repository, count: int) -> None:
        """Start so many uploads."""

        async def started() -> str:
            return _location(self._session, repository, await start(self._session, repository))

        tasks = self._started.setdefault(repository, [])
        tasks += [asyncio.create_task(self._session.http.retries.retried(started)) for _ in range(count)]

    async def opened(self, repository: Repository) -> str:
        """Where an upload that was started ahead continues, once; empty if there is none, or if it failed."""
        tasks = self._started.get(repository)
        with suppress(PublishError):  # another one is started, and if that fails too, it is reported
            return await tasks.pop() if tasks else ""
        return ""

    async def close(self) -> None:
        """Cancel what is not used."""
        unused = [task for tasks in self._started.values() for task in tasks]
        for task in unused:
            task.cancel()
        await asyncio.gather(*unused, return_exceptions=True)
