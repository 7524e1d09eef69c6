"""Sink: a registry that speaks the OCI distribution spec 1.1 over HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from build.errors import PublishError
from build.oci import FORMATS, Blob, Image, Index, digest_of
from build.reference import Repository

AT_ONCE = 16
# What is no blob is no larger: distribution-spec, "Pushing Manifests".
_LARGEST = 4 << 20
_MANIFESTS = ", ".join(kind for form in FORMATS.values() for kind in (form.manifest, form.index))
_HUB = {"docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class _Answer:
    """A registry's answer, read no further than was asked for."""

    status: int
    reason: str | None
    headers: Mapping[str, str]
    data: bytes


class Registry:
    """One registry's repositories. Safe to use from several threads.

    `host` is HOST[:PORT]; `config_file` is Docker's config.json, read only if the registry wants to know who we are.
    A registry on the loopback interface is spoken to in plain HTTP first.
    """

    keeps_tags = True

    def __init__(self, host: str, config_file: Path) -> None:
        self._host = host
        self._config_file = config_file
        scheme = "http" if _is_loopback(host) else "https"
        self._origin = f"{scheme}://{_HUB.get(host, host)}"
        self._pool = urllib3.PoolManager(
            maxsize=AT_ONCE,
            timeout=urllib3.Timeout(connect=10, read=60),
            retries=False,
            headers={"User-Agent": "pause"},
        )
        # Tokens by the repositories that they are for. Two threads may both ask for one: the second is kept.
        self._authorizations: dict[str, str] = {}

    def digest(self, repository: Repository, tag: str) -> str | None:
        """The digest under `tag`, or None (distribution-spec, "Checking if content exists in the registry")."""
        answer = self._send("HEAD", repository, f"manifests/{tag}", (200, 404), headers={"Accept": _MANIFESTS})
        if answer.status == 404:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        return digest or digest_of(self._get(repository, f"manifests/{tag}"))

    def manifest(self, repository: Repository, reference: str) -> Blob | None:
        """The manifest under a tag or digest, or None; PublishError if its bytes are not what the registry says."""
        path = f"manifests/{reference}"
        answer = self._send("GET", repository, path, (200, 404), headers={"Accept": _MANIFESTS})
        if answer.status == 404:
            return None
        manifest = Blob(answer.headers.get("Content-Type", "").partition(";")[0], answer.data)
        self._agree(repository, path, answer, manifest.digest)
        if ":" in reference and reference != manifest.digest:
            raise PublishError(f"{repository}@{reference}: the registry sent {manifest.digest} instead")
        return manifest

    def blob(self, repository: Repository, digest: str, most: int = sys.maxsize) -> bytes:
        """The bytes of a blob; PublishError if they are missing or not the digest's, or if more than `most` come."""
        data = self._send("GET", repository, f"blobs/{digest}", (200,), most=most).data
        if digest_of(data) != digest:
            raise PublishError(f"{repository}: blob {digest}: the registry sent {digest_of(data)} instead")
        return data

    def put_blob(self, repository: Repository, blob: Blob, source: Repository | None = None) -> None:
        """Store a blob: mounted from `source` if the registry agrees, else sent whole ("Pushing blobs")."""
        path = "blobs/uploads/" + (f"?mount={blob.digest}&from={quote(source.name, safe='')}" if source else "")
        opened = self._send("POST", repository, path, (201, 202))
        if opened.status == 201:
            return
        location = urljoin(self._url(repository, path), opened.headers.get("Location", ""))
        location += ("&" if urlsplit(location).query else "?") + "digest=" + quote(blob.digest, safe="")
        headers = {"Content-Type": "application/octet-stream"}
        stored = self._send("PUT", repository, location, (201,), blob.data, headers)
        self._agree(repository, location, stored, blob.digest)

    def put_manifest(self, repository: Repository, manifest: Blob) -> None:
        """Store a manifest under its digest ("Pushing manifests")."""
        self._put_manifest(repository, manifest.digest, manifest)

    def put_tag(self, repository: Repository, tag: str, target: Image | Index) -> None:
        """Let `tag` refer to `target`."""
        self._put_manifest(repository, tag, target.manifest)

    def _put_manifest(self, repository: Repository, reference: str, manifest: Blob) -> None:
        path = f"manifests/{reference}"
        headers = {"Content-Type": manifest.media_type}
        stored = self._send("PUT", repository, path, (201,), manifest.data, headers)
        self._agree(repository, path, stored, manifest.digest)

    def _get(self, repository: Repository, path: str) -> bytes:
        return self._send("GET", repository, path, (200,), headers={"Accept": _MANIFESTS}).data

    def _send(
        self,
        method: str,
        repository: Repository,
        path: str,
        expected: Collection[int],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = _LARGEST,
    ) -> _Answer:
        """One exchange, and a second one if the registry first asks who we are."""
        url = self._url(repository, path)
        answer = self._exchange(method, url, repository, body, headers, most=most)
        if answer.status == 400 and url.startswith("http:") and self._wants_https(url):
            self._origin = self._origin.replace("http:", "https:", 1)
            answer = self._exchange(method, self._url(repository, path), repository, body, headers, most=most)
        if answer.status == 401:
            # Sent from here: another thread's token, for a mount from elsewhere, may by now be the one that is kept.
            token = self._authorizations[repository.name] = self._authorize(answer, repository)
            answer = self._exchange(method, self._url(repository, path), repository, body, headers, token, most)
        if answer.status not in expected:
            raise PublishError(_refusal(method, self._url(repository, path), answer))
        return answer

    def _wants_https(self, url: str) -> bool:
        # Servers say so in words; the answer to a HEAD has none.
        return b"HTTPS" in self._request("GET", url, None, {}).data

    def _url(self, repository: Repository, path: str) -> str:
        name = f"library/{repository.name}" if self._host in _HUB and "/" not in repository.name else repository.name
        return urljoin(f"{self._origin}/v2/{name}/", path)

    def _exchange(
        self,
        method: str,
        url: str,
        repository: Repository,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        authorization: str = "",
        most: int = _LARGEST,
    ) -> _Answer:
        named = dict(headers or {})
        known = authorization or self._authorizations.get(repository.name)
        if known and urlsplit(url)[:2] == urlsplit(self._origin)[:2]:
            named["Authorization"] = known
        return self._request(method, url, body, named, most)

    def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], most: int = _LARGEST
    ) -> _Answer:
        # A redirect (to where the registry keeps its blobs) is followed, and urllib3 then leaves our credentials out.
        try:
            answer = self._pool.request(
                method,
                url,
                body=body,
                headers=dict(headers),
                redirect=method == "GET",
                retries=urllib3.Retry(0, redirect=3),
                preload_content=False,
            )
            data = answer.read(most + 1) if most < sys.maxsize else answer.read()
            if len(data) > most:
                answer.close()  # the rest is not read, so that the connection is of no more use
                raise PublishError(f"{method} {_redacted(url)}: found more than {most} bytes, expected {most} at most")
            answer.release_conn()
            return _Answer(answer.status, answer.reason, answer.headers, data)
        except urllib3.exceptions.HTTPError as error:
            raise PublishError(f"{method} {_redacted(url)}: {_reason(error)}") from None

    def _authorize(self, answer: _Answer, repository: Repository) -> str:
        """The `Authorization` that answers the challenge of a 401."""
        from build import auth

        asked = auth.challenge(answer.headers.get("WWW-Authenticate", ""))
        known = auth.credentials(self._config_file, self._host)
        if asked.scheme == "basic" and known:
            return known.basic
        if asked.scheme != "bearer":
            raise PublishError(
                f"{self._host} wants {asked.scheme or 'unknown'} credentials for {repository.name}:"
                f" found none in {self._config_file}\n  log in first: docker login {self._host}"
            )
        request = auth.token_request(asked, known)
        given = self._request(request.method, request.url, request.body, request.headers)
        if given.status != 200:
            raise PublishError(
                _refusal(request.method, request.url, given) + f"\n  log in first: docker login {self._host}"
            )
        try:
            token = json.loads(given.data)
            return "Bearer " + str(token.get("token") or token["access_token"])
        except (ValueError, KeyError, AttributeError):
            raise PublishError(f"{_redacted(request.url)}: expected a JSON object with a token") from None

    def _agree(self, repository: Repository, path: str, answer: _Answer, digest: str) -> None:
        told = answer.headers.get("Docker-Content-Digest", digest)
        if told != digest:
            url = _redacted(self._url(repository, path))
            raise PublishError(
                f"{url}: the registry says {told}, expected {digest}\n  the registry or a proxy is broken"
            )


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name in ("localhost", "[::1]") or name.startswith("127.")


def _refusal(method: str, url: str, answer: _Answer) -> str:
    """One line for an answer that is not the expected one: the registry's own code and words if it gave any."""
    try:
        errors: list[dict[str, Any]] = json.loads(answer.data)["errors"]
        words = "; ".join(f"{each.get('code')}: {each.get('message')}" for each in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        words = answer.reason or ""
    return f"{method} {_redacted(url)}: {answer.status} {words}".rstrip()


def _redacted(url: str) -> str:
    """The URL without user, query and fragment, in any of which a secret may stand."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: Exception) -> str:
    cause = error.__cause__ or getattr(error, "reason", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause).partition(": ")[2] or str(cause)
