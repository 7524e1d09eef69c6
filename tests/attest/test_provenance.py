"""The provenance of a release: what it says, as others expect it, and that it says no more than it should."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import pytest

from build.attest.provenance import BUILD_TYPE, builder_of
from build.config.revision import public_url
from tests.support.checkout import RELEASE, SOURCE, Checkout
from tests.support.keys import Pair
from tests.support.registries import Recorder
from tests.support.signed import PREDICATE, PROVENANCE, Place, SignedRelease

Json = dict[str, Any]


def statement(place: Place, digest: str) -> Json:
    """The provenance of a digest, from the bundle among its referrers."""
    for entry in place.json(digest.replace(":", "-"))["manifests"]:
        manifest = place.json(entry["digest"])
        if manifest["annotations"][PREDICATE] == PROVENANCE:
            bundle = place.json(manifest["layers"][0]["digest"])
            found: Json = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
            return found
    raise AssertionError("no provenance")


def dependencies(found: Json) -> list[Json]:
    listed: list[Json] = found["predicate"]["buildDefinition"]["resolvedDependencies"]
    return listed


def test_one_statement_is_about_the_list_and_its_images(signed: SignedRelease) -> None:
    found = statement(signed.place, signed.digests[0])
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == PROVENANCE
    assert ["sha256:" + each["digest"]["sha256"] for each in found["subject"]] == signed.digests
    assert all(statement(signed.place, digest) == found for digest in signed.digests[1:])


def test_it_says_what_was_set_and_what_followed(signed: SignedRelease) -> None:
    definition = statement(signed.place, signed.digests[0])["predicate"]["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPE
    assert f"`{BUILD_TYPE}`" in (SOURCE / "docs" / "provenance.md").read_text()
    assert definition["externalParameters"] == {
        "task": "all-push",
        "image": "pause",
        "tag": "3.1",
        "arches": [*RELEASE],
        "engine": "embedded",
        "format": "oci",
        "cflags": ["-Os", "-Wall", "-Werror", "-static"],
        "compiler": "zig",
        "libc": False,
    }
    assert definition["internalParameters"]["VERSION"] == signed.checkout.version


def test_its_dependencies_are_pinned(signed: SignedRelease) -> None:
    found = statement(signed.place, signed.digests[0])
    source, *others = dependencies(found)
    assert source == {"name": "source", "digest": {"gitCommit": signed.checkout.git("rev-parse", "HEAD")}}
    by_name = {each["name"]: each["digest"]["sha256"] for each in others if "uri" not in each}
    assert by_name == {
        path: hashlib.sha256((SOURCE / path).read_bytes()).hexdigest() for path in ("Dockerfile.j2", "arches.yaml")
    }
    wheels = [each for each in others if each.get("uri", "").startswith("pkg:pypi/ziglang@")]
    [block] = re.findall(
        r"^ziglang==.*?(?=^\S|\Z)", (SOURCE / "requirements.txt").read_text(), re.DOTALL | re.MULTILINE
    )
    assert {each["digest"]["sha256"] for each in wheels} == set(re.findall(r"sha256:([0-9a-f]{64})", block))
    assert len(wheels) > 5


def test_the_machine_is_not_in_it(signed: SignedRelease) -> None:
    text = json.dumps(statement(signed.place, signed.digests[0]))
    assert signed.host not in text
    assert str(signed.checkout.root) not in text
    assert str(signed.checkout.side) not in text


def test_uncommitted_changes_and_credentials(checkout: Checkout, keys: Pair, recorder: Recorder) -> None:
    checkout.git("remote", "set-url", "origin", "https://me:hunter2@git.example/team/pause.git")
    checkout.edit("pause.c", '"pause.c ', '"pause.d ')
    run = checkout("all-push", REGISTRY=recorder.host, SIGN_KEY=str(keys.private), GITHUB_ACTIONS="true")
    found = statement(Place(recorder.host), next(iter(run.digests.values())))
    source = dependencies(found)[0]
    assert source["uri"] == "git+https://git.example/team/pause"
    assert source["annotations"] == {"changed": ["pause.c"]}
    assert "hunter2" not in json.dumps(found)


def test_what_the_user_sets_is_in_it(checkout: Checkout, keys: Pair, recorder: Recorder) -> None:
    given = {
        "SIGN_KEY": str(keys.private),
        "REV": "mine",
        "SOURCE_DATE_EPOCH": "77",
        "CFLAGS": "-O1 -static",
        "FORMAT": "docker",
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_WORKFLOW_REF": "octo/pause/.github/workflows/release.yml@refs/tags/v1",
    }
    run = checkout("all-push", "--arch", "arm64", "--registry", recorder.host, **given)
    found = statement(Place(recorder.host), next(iter(run.digests.values())))["predicate"]
    parameters = found["buildDefinition"]["externalParameters"]
    assert {"REV": "mine", "SOURCE_DATE_EPOCH": "77", "format": "docker", "arches": ["arm64"]}.items() <= (
        parameters.items()
    )
    assert parameters["cflags"] == ["-O1", "-static"]
    assert found["runDetails"]["builder"]["id"] == (
        "https://github.com/octo/pause/.github/workflows/release.yml@refs/tags/v1"
    )


@pytest.mark.parametrize(
    ("environment", "builder"),
    [
        ({}, "local"),
        ({"GITHUB_ACTIONS": "true"}, "local"),
        (
            {"GITLAB_CI": "true", "CI_PROJECT_URL": "https://gitlab.com/a/b", "CI_COMMIT_REF_NAME": "main"},
            "https://gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main",
        ),
        (
            {
                "GITLAB_CI": "true",
                "CI_PROJECT_URL": "https://gitlab.com/a/b",
                "CI_COMMIT_TAG": "v1",
                "CI_CONFIG_PATH": "ci/x.yml",
            },
            "https://gitlab.com/a/b//ci/x.yml@refs/tags/v1",
        ),
    ],
)
def test_the_builder_is_the_workflow(environment: dict[str, str], builder: str) -> None:
    assert builder_of(environment) == builder


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("git@github.com:org/repo.git", "https://github.com/org/repo"),
        ("ssh://git@host.example:2222/org/repo.git", "https://host.example/org/repo"),
        ("https://user:secret@host.example:8443/a/b.git?token=x", "https://host.example:8443/a/b"),
        ("https://host.example/a/", "https://host.example/a"),
        ("/srv/git/repo.git", ""),
        ("../repo", ""),
        ("file:///srv/git/repo.git", ""),
        ("", ""),
    ],
)
def test_the_address_of_a_repository_as_anyone_may_see_it(url: str, public: str) -> None:
    assert public_url(url) == public


def test_a_base_is_in_it(checkout: Checkout, keys: Pair, recorder: Recorder) -> None:
    checkout("all-push", "--registry", "oci:base", "--arch", "arm64")
    (checkout.root / "Dockerfile.j2").write_text(
        "FROM oci:base/pause:3.1\n" + (checkout.root / "Dockerfile.j2").read_text().replace("FROM scratch\n", "")
    )
    run = checkout("all-push", "--arch", "arm64", "--registry", recorder.host, SIGN_KEY=str(keys.private))
    found = dependencies(statement(Place(recorder.host), next(iter(run.digests.values()))))
    [base] = [each for each in found if each.get("annotations", {}).get("base")]
    index = json.loads((checkout.root / "base" / "pause" / "index.json").read_bytes())
    assert base["digest"]["sha256"] == index["manifests"][0]["digest"].removeprefix("sha256:")
