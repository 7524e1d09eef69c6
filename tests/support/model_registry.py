"""A registry in memory, with the habits of those that differ from the reference one; each habit is a knob."""

from __future__ import annotations

import json
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.fronts import Asked, Handler, Said, listening
from tests.support.reading import digest
from tests.support.strangers import OCI

_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+|uploads/.*)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
_REFERRERS = re.compile(r"/v2/(?P<name>.+)/referrers/(?P<subject>[^/]+)")
Headers = list[tuple[str, str]]


def refused(status: int, code: str) -> Said:
    """An answer with an error of the distribution spec."""
    return Said(status, [], json.dumps({"errors": [{"code": code, "message": "so it is"}]}).encode())


def _subject(manifest: bytes) -> str:
    """The digest of its `subject`; empty if it has none."""
    return str((json.loads(manifest).get("subject") or {}).get("digest", ""))


def _listed(found: str, manifest: bytes, media_type: str) -> dict[str, Any]:
    """Its entry in a list of referrers (distribution-spec, "Listing Referrers")."""
    body = json.loads(manifest)
    kind = body.get("artifactType") or body.get("config", {}).get("mediaType")
    entry = {"mediaType": media_type, "digest": found, "size": len(manifest), "artifactType": kind}
    return {name: value for name, value in {**entry, "annotations": body.get("annotations")}.items() if value}


@dataclass
class Content:
    """What a repository has."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    # What still shows under a tag, and how many more reads show it.
    shown: dict[str, tuple[str | None, float]] = field(default_factory=dict)


@dataclass
class Model:
    """The registry. Without a knob turned, it keeps to the distribution spec, and anyone may do anything."""

    host: str = ""
    origin: str = ""
    repositories: dict[str, Content] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    # What a token for pulling only gets for a repository that is not there: a status, at `/v2/` or at the token server.
    # In either case, whoever asks for the right to push has the repository created.
    hides: int = 0
    refuses_tokens: int = 0
    # Scopes (NAME:ACTIONS) that are refused whenever they are asked for.
    denied: set[str] = field(default_factory=set)
    # How many reads of a tag show what was before it was moved; and of its HEADs that find nothing.
    lag: float = 0
    blind: bool = False
    # The answer to a HEAD, to a mount, and instead of the 201, 200 and 202 to writes and for tokens.
    head: int = 0
    mount: Said | None = None
    stored: int = 201
    granted: int = 200
    started: int = 202
    # How many times a manifest is refused, and with what.
    refusals: dict[str, Said] = field(default_factory=dict)
    times: float = 1
    # What is changed in headers at the end, and how many requests at least are awaited before any is answered.
    headers: Callable[[Asked, Headers], Headers] = lambda _, headers: headers
    gather: int = 1
    in_flight: int = 0
    most: int = 0
    # The most tags in a page, whatever is asked for; and the URL of the next page, of which {} is the path and query.
    page: int = 1000
    next_page: str = "{}"
    # Whether there is the Referrers API, how many referrers are in a page, and what it says instead.
    lists_referrers: bool = False
    referrers_page: int = 1000
    referrers: Said | None = None
    _seen: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)
    _moved: Condition = field(default_factory=Condition)

    @property
    def lines(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.asked]

    @property
    def scopes(self) -> list[str]:
        """The scopes that tokens were asked for, in order."""
        queries = [parse_qs(urlsplit(each.path).query) for each in self.asked if each.path.startswith("/token")]
        return [scope for query in queries for scope in query.get("scope", [])]

    def tags(self) -> dict[str, str]:
        """The digest under each NAME:TAG."""
        return {f"{name}:{tag}": now for name, has in self.repositories.items() for tag, now in has.tags.items()}

    def answer(self, asked: Asked) -> Said:
        with self._moved:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            self._moved.notify_all()
            self._moved.wait_for(lambda: self.most >= self.gather, timeout=1)
        with self._lock:
            self.asked.append(asked)
            said = self._answer(asked)
            said.headers = self.headers(asked, said.headers)
            said.body = b"" if asked.method == "HEAD" else said.body
        with self._moved:
            self.in_flight -= 1
        return said

    def _answer(self, asked: Asked) -> Said:
        parts = urlsplit(asked.path)
        if parts.path == "/token":
            return self._token(parse_qs(parts.query)["scope"])
        for pattern, listing in ((_TAGS, self._list), (_REFERRERS, self._referrers)):
            if listed := pattern.fullmatch(parts.path):
                return listing(listed, parse_qs(parts.query))
        found = _PATH.fullmatch(parts.path)
        if not found:
            return Said(200, [], b"{}")
        name, kind, reference = found.group("name", "kind", "reference")
        query = {key: value for key, (value,) in parse_qs(parts.query).items()}
        if self.hides or self.refuses_tokens:
            said = self._barred(asked, name, query.get("from", ""))
            if said:
                return said
        has = self.repositories.setdefault(name, Content())
        if kind == "manifests":
            return self._put(has, asked, reference) if asked.method == "PUT" else self._get(has, asked, reference)
        return self._blob(name, has, asked, reference, query)

    def _list(self, listed: re.Match[str], query: dict[str, list[str]]) -> Said:
        name, path = listed["name"], listed[0]
        if name not in self.repositories:
            return refused(404, "NAME_UNKNOWN")
        most = min(self.page, int(query.get("n", ["1000"])[0]))
        tags = [tag for tag in sorted(self.repositories[name].tags) if tag > query.get("last", [""])[0]]
        page, left = tags[:most], tags[most:]
        following = self.next_page.format(f"{path}?n={most}&last={page[-1]}") if left else ""
        link = [("Link", f'<{following}>; rel="next"')] if left else []
        return Said(200, link, json.dumps({"name": name, "tags": page}).encode())

    def _referrers(self, listed: re.Match[str], query: dict[str, list[str]]) -> Said:
        (name, subject), path = listed.groups(), listed[0]
        if self.referrers:
            return Said(self.referrers.status, [*self.referrers.headers], self.referrers.body)
        if not self.lists_referrers:
            return Said(404, [], b"404 page not found")
        has, last = self.repositories.get(name, Content()), query.get("last", [""])[0]
        wanted = {each: data for each, data in has.manifests.items() if _subject(data) == subject and each > last}
        page = [_listed(each, wanted[each], has.types[each]) for each in sorted(wanted)[: self.referrers_page]]
        following = f"{path}?last={page[-1]['digest']}" if len(wanted) > len(page) else ""
        link = [("Link", f'<{following}>; rel="next"')] if following else []
        index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": page}
        return Said(200, [*link, ("Content-Type", OCI + "index.v1+json")], json.dumps(index).encode())

    def _token(self, scopes: list[str]) -> Said:
        for scope in scopes:
            _, name, actions = scope.split(":")
            if f"{name}:{actions}" in self.denied:
                return refused(403, "DENIED")
            if "push" in actions.split(","):
                self.repositories.setdefault(name, Content())
            elif self.refuses_tokens and name not in self.repositories:
                return refused(self.refuses_tokens, "DENIED")
        return Said(self.granted, [], json.dumps({"token": "~".join(scopes).replace(":", "!")}).encode())

    def _barred(self, asked: Asked, name: str, source: str) -> Said | None:
        token = asked.authorization.removeprefix("Bearer ").replace("!", ":")
        given = {
            (scope.split(":")[1], action)
            for scope in token.split("~")
            if scope
            for action in scope.split(":")[2].split(",")
        }
        reads = asked.method in ("GET", "HEAD")
        wanted = [(name, "pull")] if reads else [(name, "pull"), (name, "push")]
        wanted += [(source, "pull")] if source else []
        if given >= set(wanted):
            hidden = self.hides and name not in self.repositories
            return refused(self.hides, "DENIED") if hidden else None
        scopes = [f"repository:{name}:{'pull' if reads else 'pull,push'}"] + [f"repository:{source}:pull"] * bool(
            source
        )
        challenge = f'Bearer realm="{self.origin}/token",service="model",scope="{" ".join(scopes)}"'
        return Said(401, [("WWW-Authenticate", challenge)])

    def _get(self, has: Content, asked: Asked, reference: str) -> Said:
        if asked.method == "HEAD" and (self.head or self.blind):
            return Said(self.head or 404)
        wanted: str | None = reference
        if ":" not in reference:
            wanted, more = has.shown.get(reference, (None, 0))
            has.shown[reference] = wanted, more - 1
            wanted = wanted if more > 0 else has.tags.get(reference)
        if wanted not in has.manifests:
            return refused(404, "MANIFEST_UNKNOWN")
        data = has.manifests[wanted]
        length = [("Content-Length", str(len(data)))] if asked.method == "HEAD" else []
        headers = [("Content-Type", has.types[wanted]), ("Docker-Content-Digest", wanted), *length]
        return Said(200, headers, data)

    def _put(self, has: Content, asked: Asked, reference: str) -> Said:
        for pattern, said in self.refusals.items():
            if re.search(pattern, asked.path) and self._seen[asked.path] < self.times:
                self._seen[asked.path] += 1
                return Said(said.status, [*said.headers], said.body)
        found = digest(asked.body)
        body = json.loads(asked.body)
        below = [each["digest"] for each in body.get("manifests", [])]
        blobs = [each["digest"] for each in (body["config"], *body["layers"])] if "config" in body else []
        blobs += [each["digest"] for each in body.get("blobs", [])]
        if not (set(below) <= set(has.manifests) and set(blobs) <= set(has.blobs)):
            return refused(400, "MANIFEST_BLOB_UNKNOWN")
        has.manifests[found] = asked.body
        has.types[found] = next(value for key, value in asked.headers.items() if key.lower() == "content-type")
        if ":" not in reference:
            has.shown[reference] = has.tags.get(reference), self.lag
            has.tags[reference] = found
        subject = _subject(asked.body) if self.lists_referrers else ""
        told = [("OCI-Subject", subject)] if subject else []
        return Said(self.stored, [("Docker-Content-Digest", found), *told])

    def _blob(self, name: str, has: Content, asked: Asked, reference: str, query: dict[str, str]) -> Said:
        if asked.method in ("GET", "HEAD"):
            data = has.blobs.get(reference)
            return refused(404, "BLOB_UNKNOWN") if data is None else Said(200, [], data)
        if asked.method == "PUT":
            if digest(asked.body) != query["digest"]:
                return refused(400, "DIGEST_INVALID")
            has.blobs[query["digest"]] = asked.body
            return Said(self.stored, [("Docker-Content-Digest", query["digest"])])
        if "mount" in query and self.mount:
            return Said(self.mount.status, [*self.mount.headers], self.mount.body)
        if "mount" in query and query["mount"] in self.repositories[query["from"]].blobs:
            has.blobs[query["mount"]] = self.repositories[query["from"]].blobs[query["mount"]]
            return Said(201, [("Location", f"/v2/{name}/blobs/{query['mount']}")])
        return Said(self.started, [("Location", f"{self.origin}/v2/{name}/blobs/uploads/one")])


@contextmanager
def model_registry(tls: ssl.SSLContext | None = None, name: str = "") -> Iterator[Model]:
    """A model that listens at its `host`; with `name`, clients know it by that name only."""
    made = Model()

    class Serving(Handler):
        def do_GET(self) -> None:  # noqa: N802
            self.write(made.answer(self.read()))

        do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    with listening(Serving, tls=tls) as port:
        made.host = f"localhost:{port}"
        made.origin = f"{'https' if tls else 'http'}://{name or made.host}"
        yield made
