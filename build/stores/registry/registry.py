"""Sink: a registry that speaks the OCI distribution spec 1.1 over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from build.errors import PublishError
from build.oci.descriptor import Blob, digest_of
from build.oci.image import Image, Index
from build.oci.media_types import INDEXES, LARGEST_MANIFEST, MANIFESTS
from build.oci.reference import Repository
from build.stores.registry.faults import Answer, TransientError, refusal
from build.stores.registry.login import Login
from build.stores.registry.transport import Transport
from build.stores.registry.trust import host_of, is_loopback, redacted, seen_from

# Seconds for an exchange: with a registry on this machine, or beside it, one takes less, even if the machine is busy.
FAR = 0.1
_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))
_HUB = {"docker.io": "registry-1.docker.io"}
# How a registry says that it knows an upload no more (distribution-spec, "Error Codes": BLOB_UPLOAD_…).
_UPLOAD_IS_GONE = (400, 404, 416)
_NOT_ALLOWED = (401, 403)


class Registry:
    """One registry's repositories. All exchanges are made in one event loop.

    `host` is HOST[:PORT]; `config_file` is Docker's config.json, read only if the registry wants to know who we are.
    Plain HTTP is tried first on the loopback interface, and last with an insecure registry. Every method raises
    PublishError for what the registry, or the way to it, does wrong for good.
    """

    keeps_tags = True

    def __init__(self, host: str, config_file: Path, transport: Transport) -> None:
        self._host = host
        self._login = Login(host, config_file, transport)
        self._transport = transport
        # As Docker does: who names an insecure registry may mean its certificate alone.
        self._may_be_plain = transport.trust.is_insecure(host)
        scheme = "http" if is_loopback(host) and not self._may_be_plain else "https"
        self._origin = f"{scheme}://{_HUB.get(host, host)}"
        # Tokens by the repositories that they are for. Two exchanges may both ask for one: the second is kept.
        self._authorizations: dict[str, str] = {}

    def close(self) -> None:
        """Give up the connections that are kept."""
        self._transport.close()

    async def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None (distribution-spec, "Checking if content exists in the registry")."""
        path, headers = f"manifests/{tag}", {"Accept": _ACCEPT}
        answer = await self._transport.patiently(
            lambda: self._send("HEAD", repository, path, (200, 404), headers=headers)
        )
        if answer.status == 404:
            return None
        if told := answer.headers.get("docker-content-digest"):
            return told
        manifest = await self.manifest(repository, tag)
        return manifest.digest if manifest else None

    async def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None ("Pulling manifests")."""
        return await self._transport.patiently(lambda: self._manifest(repository, reference))

    async def blob(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:
        """The bytes of a blob; PublishError if more than `most` come ("Pulling blobs")."""

        async def get() -> bytes:
            data = (await self._send("GET", repository, f"blobs/{digest}", (200,), most=most)).data
            self._agree(repository, f"blobs/{digest}", digest_of(data), digest)
            return data

        return await self._transport.patiently(get)

    @property
    def is_far(self) -> bool:
        """Whether no exchange took less than what a registry nearby may take."""
        return self._transport.quickest > FAR

    def at_once(self) -> int:
        """How many exchanges are in flight at most."""
        return self._transport.at_once

    async def open_upload(self, repository: Repository) -> str:
        """Where a blob can be sent to; a registry forgets an upload that nothing comes for."""

        async def opened() -> str:
            return self._location(repository, await self._open(repository))

        return await self._transport.patiently(opened)

    async def put_blob(
        self, repository: Repository, blob: Blob, source: Repository | None = None, upload: str = ""
    ) -> int:
        """Store a blob: mounted from `source` if the registry agrees, else sent whole ("Pushing blobs")."""
        known = [upload] if upload else []
        return await self._transport.patiently(
            lambda: self._upload(repository, blob, source, known.pop() if known else "")
        )

    async def put_manifest(self, repository: Repository, manifest: Blob) -> None:
        """Store a manifest under its digest ("Pushing manifests")."""
        await self._put_manifest(repository, manifest.digest, manifest)

    async def put_tag(self, repository: Repository, tag: str, target: Image | Index) -> None:
        """Let `tag` refer to `target`."""
        await self._put_manifest(repository, tag, target.manifest)

    async def _manifest(self, repository: Repository, reference: str) -> Blob | None:
        path = f"manifests/{reference}"
        answer = await self._send("GET", repository, path, (200, 404), headers={"Accept": _ACCEPT})
        if answer.status == 404:
            return None
        manifest = Blob(answer.headers.get("content-type", "").partition(";")[0], answer.data)
        self._agree(repository, path, manifest.digest, answer.headers.get("docker-content-digest"))
        self._agree(repository, path, manifest.digest, reference if ":" in reference else None)
        return manifest

    async def _put_manifest(self, repository: Repository, reference: str, manifest: Blob) -> None:
        path = f"manifests/{reference}"

        async def put() -> None:
            stored = await self._send(
                "PUT", repository, path, (201,), manifest.data, {"Content-Type": manifest.media_type}
            )
            self._agree(repository, path, stored.headers.get("docker-content-digest"), manifest.digest)

        await self._transport.patiently(put)

    async def _upload(self, repository: Repository, blob: Blob, source: Repository | None, location: str) -> int:
        if not location:
            opened = await (self._mount(repository, blob, source) if source else self._open(repository))
            if opened.status == 201:
                return 0
            location = self._location(repository, opened)
        location += ("&" if urlsplit(location).query else "?") + "digest=" + quote(blob.digest, safe="")
        headers = {"Content-Type": "application/octet-stream"}
        stored = await self._send("PUT", repository, location, (201, *_UPLOAD_IS_GONE), blob.data, headers)
        if stored.status != 201:
            raise TransientError(refusal("PUT", location, stored))  # an upload lives for some time only: open another
        self._agree(repository, location, stored.headers.get("docker-content-digest"), blob.digest)
        return len(blob.data)

    def _location(self, repository: Repository, opened: Answer) -> str:
        """Where an upload goes on: relative, absolute, or on another host."""
        url = self._url(repository, "blobs/uploads/")
        if "location" not in opened.headers:
            raise PublishError(f"POST {redacted(url)}: found no Location in its answer, expected an upload's")
        location = seen_from(url, opened.headers["location"], "Location")
        # A registry behind a proxy that ends TLS may think that it is spoken to in plain HTTP.
        ours = f"http://{host_of(self._origin)}/"
        return f"{self._origin}/{location.removeprefix(ours)}" if location.startswith(ours) else location

    async def _open(self, repository: Repository) -> Answer:
        return await self._send("POST", repository, "blobs/uploads/", (202,))

    async def _mount(self, repository: Repository, blob: Blob, source: Repository) -> Answer:
        path = f"blobs/uploads/?mount={blob.digest}&from={quote(source.name, safe='')}"
        answer = await self._send("POST", repository, path, (201, 202, *_NOT_ALLOWED))
        # Who may write here need not be allowed to read there.
        return await self._open(repository) if answer.status in _NOT_ALLOWED else answer

    async def _send(
        self,
        method: str,
        repository: Repository,
        path: str,
        expected: Collection[int],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = LARGEST_MANIFEST,
    ) -> Answer:
        """One exchange, and a second one if the registry first asks who we are. `path` may be a whole URL."""
        plain = self._url(repository, path).startswith(f"http://{host_of(self._origin)}/")
        try:
            answer = await self._exchange(method, repository, path, body, headers, most=most)
        except PublishError:
            if not await self._wants_plain():
                raise
            answer = await self._exchange(method, repository, path, body, headers, most=most)
        self._may_be_plain = False  # it speaks what we speak
        if answer.status == 400 and plain and await self._wants_https():
            answer = await self._exchange(method, repository, path, body, headers, most=most)
        if answer.status == 401 and self._is_ours(self._url(repository, path)):
            # Sent from here: another exchange's token, for a mount from elsewhere, may by now be the one that is kept.
            token = self._authorizations[repository.name] = await self._login.answer(self._origin, answer, repository)
            answer = await self._exchange(method, repository, path, body, headers, token, most)
        if answer.status not in expected:
            raise PublishError(refusal(method, self._url(repository, path), answer))
        return answer

    async def _wants_https(self) -> bool:
        """Whether the registry says that it speaks TLS; it is spoken to so from now on."""
        url = f"http://{host_of(self._origin)}/v2/"
        # Servers say so in words; the answer to a HEAD has none.
        if b"HTTPS" in (await self._transport.exchange("GET", url, None, {})).data:
            self._origin = f"https://{host_of(self._origin)}"
        return self._origin.startswith("https:")

    async def _wants_plain(self) -> bool:
        """Whether an insecure registry that has not answered in TLS does so in plain HTTP; then that is spoken on."""
        if not self._may_be_plain:
            return False
        url = f"http://{host_of(self._origin)}/v2/"
        try:
            answer = await self._transport.exchange("GET", url, None, {})
        except TransientError:
            return False
        # A server of TLS may have words for who speaks plainly.
        if answer.status != 400:
            self._origin = f"http://{host_of(self._origin)}"
        return self._origin.startswith("http:")

    def _is_ours(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self._origin)[:2]

    def _url(self, repository: Repository, path: str) -> str:
        name = f"library/{repository.name}" if self._host in _HUB and "/" not in repository.name else repository.name
        return urljoin(f"{self._origin}/v2/{name}/", path)

    async def _exchange(
        self,
        method: str,
        repository: Repository,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        authorization: str = "",
        most: int = LARGEST_MANIFEST,
    ) -> Answer:
        url, named = self._url(repository, path), dict(headers or {})
        known = authorization or self._authorizations.get(repository.name)
        if known and self._is_ours(url):
            named["Authorization"] = known
        return await self._transport.exchange(method, url, body, named, most)

    def _agree(self, repository: Repository, path: str, found: str | None, expected: str | None) -> None:
        """Raise TransientError if two digests, both of which are told, are not the same."""
        if None not in (found, expected) and found != expected:
            url = redacted(self._url(repository, path))
            raise TransientError(
                f"{url}: found digest {found}, expected {expected}\n  the registry or a proxy is broken"
            )
