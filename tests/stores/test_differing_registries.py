"""Registries that differ from the reference one, each in a way of its own: a release gets there all the same."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from build.oci.descriptor import Blob
from build.oci.image import Index
from build.oci.media_types import OCI
from build.oci.reference import Repository
from build.stores.http import retries
from build.stores.http.access import Access
from build.stores.registry.registry import Registry
from tests.support.certificates import certs_d, papers
from tests.support.checkout import REPOSITORIES, Checkout, Run
from tests.support.forward_proxy import proxy
from tests.support.fronts import Asked, Said
from tests.support.model_registry import Headers, Model, model_registry, refused

Released = tuple[Checkout, Run]
LIST, ARM = "pause:3.1", "pause-arm:3.1"


@pytest.fixture(scope="module")
def compiled(source: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout.clone(source.root, tmp_path_factory.mktemp("differing") / "checkout")
    checkout("all-container")
    return checkout


@pytest.fixture
def model() -> Iterator[Model]:
    with model_registry() as made:
        yield made


def publishes(checkout: Checkout, model: Model, released: Released, *words: str) -> None:
    """`all-push` puts the release there, and says so."""
    run = checkout("all-push", *words, REGISTRY=model.host, TIMEOUT="60")
    assert run.stdout == released[1].stdout.replace("oci:dist", model.host)
    assert model.tags() == {name.rpartition("/")[2]: each for name, each in run.digests.items()}


HIDING = {"401": {"hides": 401}, "403": {"hides": 403}, "at the token server": {"refuses_tokens": 403}}


def turn(model: Model, knobs: dict[str, int]) -> None:
    for name, value in knobs.items():
        setattr(model, name, value)


@pytest.mark.parametrize("habit", HIDING)
def test_a_repository_that_the_right_to_push_creates(
    compiled: Checkout, model: Model, released: Released, habit: str
) -> None:
    turn(model, HIDING[habit])
    publishes(compiled, model, released)
    for name in REPOSITORIES:
        assert next(each for each in model.scopes if each.split(":")[1] == name) == f"repository:{name}:pull,push"


@pytest.mark.parametrize("task", ["copy", "push-manifest"])
def test_a_repository_that_other_tasks_create(compiled: Checkout, model: Model, released: Released, task: str) -> None:
    turn(model, HIDING["403"])
    if task == "push-manifest":
        compiled("all-push-images", REGISTRY=model.host)
        run = compiled(task, REGISTRY=model.host)
    else:
        run = released[0](task, "oci:dist", model.host)
    assert model.tags()[LIST] == run.digests[f"{model.host}/{LIST}"] == released[1].digests[f"oci:dist/{LIST}"]


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["plan"],
        ["--dry", "all-push"],
        ["use"],
        ["copy", "{host}", "oci:elsewhere"],
        ["copy", "{host}/", "{host}/to"],
    ],
)
def test_what_is_read_is_only_pulled(compiled: Checkout, model: Model, words: list[str]) -> None:
    turn(model, HIDING["401"])
    compiled("all-push", REGISTRY=model.host)
    model.asked.clear()
    registry = {} if words[0] == "copy" else {"REGISTRY": model.host}
    compiled(*(word.format(host=model.host) for word in words), **registry)
    scopes = [each for each in model.scopes if not each.split(":")[1].startswith("to/")]
    assert scopes
    assert {each.rpartition(":")[2] for each in scopes} == {"pull"}


def test_who_may_only_pull_hears_that_there_is_nothing_to_do(compiled: Checkout, model: Model) -> None:
    turn(model, HIDING["401"])
    first = compiled("all-push", REGISTRY=model.host)
    model.denied = {f"{name}:pull,push" for name in REPOSITORIES}
    assert compiled("all-push", REGISTRY=model.host).stdout == first.stdout
    message = compiled.refuses(1, "all-push", REGISTRY=model.host, TAG="3.2")
    assert "403 DENIED" in message
    assert "docker login" in message


@pytest.mark.parametrize("granted", [201, 202])
def test_a_token_with_another_status(compiled: Checkout, model: Model, released: Released, granted: int) -> None:
    model.hides, model.granted = 401, granted
    publishes(compiled, model, released)


def test_tags_that_lag(compiled: Checkout, model: Model, released: Released) -> None:
    """First they are absent for a while, then they are what they were."""
    model.lag = 3
    publishes(compiled, model, released)
    compiled("all-push", "--overwrite", REGISTRY=model.host, REV="other")
    publishes(compiled, model, released, "--overwrite")


@pytest.mark.parametrize("found", ["no such tag", "another"])
def test_tags_that_never_show(compiled: Checkout, model: Model, found: str) -> None:
    if found == "another":
        found = compiled("all-push", REGISTRY=model.host, REV="other").digests[f"{model.host}/{ARM}"]
    model.lag = float("inf")
    message = compiled.refuses(1, "all-push", "--overwrite", REGISTRY=model.host, TIMEOUT="3")
    assert f"{ARM}: found {found}, expected {model.tags()[ARM]}, which was just pushed (tried " in message
    assert "--timeout 3" in message


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_head_finds_nothing_where_get_does(compiled: Checkout, model: Model, released: Released, status: int) -> None:
    model.head = status
    publishes(compiled, model, released)
    model.asked.clear()
    publishes(compiled, model, released)
    assert "PUT" not in {each.method for each in model.asked}
    message = compiled.refuses(1, "all-push", REGISTRY=model.host, REV="other")
    assert "refusing to move" in message


HERE = [("Location", "/v2/pause/blobs/uploads/one")]
MOUNTS = {
    **{str(status): refused(status, "UNSUPPORTED") for status in (400, 401, 403, 404, 405, 409, 500, 501, 502, 503)},
    "bare 200": Said(200),
    "200 of an upload": Said(200, HERE),
    "201 of an upload": Said(201, HERE),
    "bare 202": Said(202),
    "204": Said(204),
}


@pytest.mark.parametrize("answer", MOUNTS)
def test_a_mount_that_is_refused_becomes_an_upload(
    compiled: Checkout, model: Model, released: Released, answer: str
) -> None:
    model.mount = MOUNTS[answer]
    publishes(compiled, model, released)
    assert len([line for line in model.lines if line.startswith("POST") and "mount=" in line]) <= 10


@pytest.mark.parametrize("answer", ["404", "500", "bare 200"])
def test_copy_uploads_too_what_it_may_not_mount(released: Released, model: Model, answer: str) -> None:
    model.mount = MOUNTS[answer]
    run = released[0]("copy", "oci:dist", f"{model.host}/to")
    assert {f"{model.host}/{name}": each for name, each in model.tags().items()} == run.digests


def test_a_mount_that_the_token_server_refuses(compiled: Checkout, model: Model, released: Released) -> None:
    model.hides, model.denied = 401, {f"{name}:pull" for name in REPOSITORIES}
    publishes(compiled, model, released)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/pause-arm/manifests/sha256:", refused(400, "MANIFEST_BLOB_UNKNOWN")),
        ("/pause-arm/manifests/3.1", refused(404, "BLOB_UNKNOWN")),
        ("/pause/manifests/3.1", refused(404, "MANIFEST_UNKNOWN")),
        ("/pause/manifests/3.1", refused(400, "MANIFEST_BLOB_UNKNOWN")),
        ("/pause/manifests/sha256:", refused(404, "NAME_UNKNOWN")),
    ],
)
def test_what_was_just_pushed_is_not_known_yet(
    compiled: Checkout, model: Model, released: Released, path: str, said: Said
) -> None:
    model.refusals, model.times = {path: said}, 3
    publishes(compiled, model, released)


def test_what_was_just_pushed_is_never_known(compiled: Checkout, model: Model) -> None:
    model.refusals, model.times = {"/pause/manifests/3.1": refused(400, "MANIFEST_BLOB_UNKNOWN")}, float("inf")
    message = compiled.refuses(1, "all-push", REGISTRY=model.host, TIMEOUT="3")
    assert "/pause/manifests/3.1: 400 MANIFEST_BLOB_UNKNOWN: so it is (tried" in message
    assert "--timeout 3" in message
    assert LIST not in model.tags()


@pytest.mark.parametrize("stored", [200, 202, 204])
def test_success_with_another_status(compiled: Checkout, model: Model, released: Released, stored: int) -> None:
    model.stored = stored
    publishes(compiled, model, released)


@pytest.mark.parametrize("started", [200, 201, 204])
def test_an_upload_starts_with_another_status(
    compiled: Checkout, model: Model, released: Released, started: int
) -> None:
    model.started = started
    publishes(compiled, model, released)


SPELLINGS = {
    "default port": ("https://registry.test", "https://registry.test:443"),
    "capitals": ("registry.test", "Registry.TEST"),
    "a dot at the end": ("registry.test", "registry.test."),
    "all of it": ("https://registry.test", "HTTPS://REGISTRY.test.:443"),
    "behind TLS": ("https://registry.test", "http://Registry.test:80"),
    "behind TLS, with its port": ("https://registry.test", "http://registry.test.:443"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_location_in_another_spelling(checkout: Checkout, tmp_path: Path, spelling: str) -> None:
    """Credentials and the authority in certs.d are those of the registry."""
    old, new = SPELLINGS[spelling]
    named = papers(tmp_path / "papers", "registry.test")
    (certs_d(checkout, "registry.test") / "ca.crt").write_bytes(named.authority.read_bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(named.certificate, named.key)
    with model_registry(context, "registry.test") as model, proxy({"registry.test:443": model.host}) as site:
        model.hides = 401
        model.headers = lambda _, headers: [
            (name, value.replace(old, new) if name == "Location" else value) for name, value in headers
        ]
        run = checkout("push", REGISTRY="registry.test", HTTPS_PROXY=site.host)
        assert {f"registry.test/{name}": each for name, each in model.tags().items()} == run.digests
    assert set(site.asked) == {"CONNECT registry.test:443"}


TYPES: dict[str, Callable[[str], list[str]]] = {
    "none": lambda _: [],
    "text/plain": lambda _: ["text/plain; charset=utf-8"],
    "application/json": lambda _: ["application/json"],
    "application/octet-stream": lambda _: ["application/octet-stream"],
    "parameters": lambda kind: [f"{kind}; charset=utf-8"],
    "capitals": lambda kind: [kind.upper()],
    "twice": lambda kind: [kind, kind],
    "twice in one": lambda kind: [f"{kind}, {kind}"],
}


@pytest.mark.parametrize("name", TYPES)
def test_a_content_type_that_means_little(compiled: Checkout, model: Model, name: str) -> None:
    def change(asked: Asked, headers: Headers) -> Headers:
        if "/manifests/" not in asked.path:
            return headers
        kept = [each for each in headers if each[0] != "Content-Type"]
        more = [each for each in headers if each[0] == "Docker-Content-Digest" and name == "twice"]
        kinds = [kind for key, old in headers if key == "Content-Type" for kind in TYPES[name](old)]
        return [*kept, *more, *(("Content-Type", kind) for kind in kinds)]

    model.headers = change
    published = compiled("all-push", REGISTRY=model.host)
    compiled("check", REGISTRY=model.host)
    compiled("push-manifest", REGISTRY=model.host)
    copied = compiled("copy", model.host, f"{model.host}/to")
    assert list(copied.digests.values()) == list(published.digests.values())


@pytest.mark.parametrize("habit", ["a tag lags", "a manifest is refused"])
def test_patience_ends_with_the_deadline_alone(model: Model, monkeypatch: pytest.MonkeyPatch, habit: str) -> None:
    """More often than other failures are retried."""
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.001)
    index, repository = Index(Blob.of(OCI.index, b'{"manifests": []}'), ()), Repository(model.host, "some")
    if habit == "a tag lags":
        model.lag = 20
    else:
        model.refusals, model.times = {"/manifests/1": refused(404, "MANIFEST_UNKNOWN")}, 20

    async def push() -> str | None:
        store = Registry(model.host, Access(timeout=60))
        try:
            await store.put_tag(repository, "1", index)
            return await store.settled_digest(repository, "1", index.digest, None)
        finally:
            await store.close()

    assert asyncio.run(push()) == index.digest
    assert len([line for line in model.lines if line.endswith(" /v2/some/manifests/1")]) > 20


@pytest.mark.parametrize("registry", ["{host}/team/", "oci:dist/team/"])
def test_a_slash_at_the_end_of_a_registry(checkout: Checkout, model: Model, registry: str) -> None:
    registry = registry.format(host=model.host)
    run = checkout("push", REGISTRY=registry)
    assert list(run.digests) == [f"{registry}pause-amd64:3.1"]
    checkout("push-manifest", "--arch", "amd64", "--registry", f"{registry}/")
    copied = checkout("copy", registry, f"{model.host}/copy/", "--arch", "amd64")
    assert list(copied.digests) == [f"{model.host}/copy/pause:3.1", f"{model.host}/copy/pause-amd64:3.1"]


def test_a_host_with_an_underscore(checkout: Checkout, model: Model) -> None:
    name = "my_registry:5000"
    with proxy({name: model.host}) as site:
        model.origin = f"http://{name}"
        run = checkout("push", "--insecure-registry", name, REGISTRY=name, HTTP_PROXY=site.host)
    assert run.digests == {f"{name}/pause-amd64:3.1": model.tags()["pause-amd64:3.1"]}
