"""Provenance of a release (SLSA v1.0, "Provenance"): from what it was built, and how; docs/provenance.md defines it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from build.attest.dsse import PROVENANCE, Statement
from build.compilers.compiler import Tool
from build.config.revision import Checkout
from build.errors import ImageError
from build.oci.image import Origin
from build.oci.strict import shown

# What the parameters mean, and how to build from them: docs/provenance.md. A name, not an address (RFC 4151).
BUILD_TYPE = "tag:k8s.io,2026:pause-image/release/v1"
LOCAL = "local"


@dataclass(frozen=True)
class Provenance:
    """From what a release was built, and how.

    `parameters` are what a user can set, `versions` what follows from them. `checkout` is None if it is no clone;
    `files` are SHA-256 digests by path. `builder` is the workflow in a CI system, else LOCAL.
    """

    parameters: Mapping[str, Any]
    versions: Mapping[str, Any]
    builder: str
    checkout: Checkout | None = None
    tools: Sequence[Tool] = ()
    bases: Sequence[Origin] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def statement(self, digests: Sequence[str]) -> Statement:
        """What is stated about the list and the images with these digests; the same input gives the same bytes."""
        predicate = {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": self.parameters,
                "internalParameters": self.versions,
                "resolvedDependencies": [
                    *_source(self.checkout),
                    *_tools(self.tools),
                    *_bases(self.bases),
                    *({"name": path, "digest": _sha256(digest)} for path, digest in sorted(self.files.items())),
                ],
            },
            "runDetails": {"builder": {"id": self.builder}},
        }
        return Statement(tuple(digests), PROVENANCE, predicate)


def builder_of(environment: Mapping[str, str]) -> str:
    """The workflow that builds, in the CI of GitHub or GitLab; LOCAL elsewhere."""
    if environment.get("GITHUB_ACTIONS") == "true" and (workflow := environment.get("GITHUB_WORKFLOW_REF")):
        return f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{workflow}"
    if environment.get("GITLAB_CI") == "true" and (project := environment.get("CI_PROJECT_URL")):
        tag, name = environment.get("CI_COMMIT_TAG"), environment.get("CI_COMMIT_REF_NAME", "")
        ref = f"refs/tags/{tag}" if tag else f"refs/heads/{name}"
        return f"{project}//{environment.get('CI_CONFIG_PATH', '.gitlab-ci.yml')}@{ref}"
    return LOCAL


@dataclass(frozen=True)
class Recipe:
    """What `rebuild` needs of a provenance: the commit, and the files that differed from it; what was set.

    `tools` are versions by name, `bases` the hexadecimal SHA-256 by reference.
    """

    commit: str
    parameters: Mapping[str, Any]
    versions: Mapping[str, Any]
    tools: Mapping[str, str]
    bases: Mapping[str, str]
    changed: tuple[str, ...]
    builder: str


def recipe_of(statement: Statement) -> Recipe:
    """How to build again what a provenance is about; raise ImageError if it is of another kind, or malformed."""
    definition = statement.predicate.get("buildDefinition")
    definition = definition if isinstance(definition, dict) else {}
    if definition.get("buildType") != BUILD_TYPE:
        found = shown(definition.get("buildType"))
        raise ImageError(f"buildType: found {found}, expected {BUILD_TYPE!r}: it was not built by invoke all-push")
    dependencies = definition.get("resolvedDependencies")
    entries = [each for each in dependencies if isinstance(each, dict)] if isinstance(dependencies, list) else []
    source = next((each for each in entries if "gitCommit" in _digests(each)), None)
    parameters, versions = definition.get("externalParameters"), definition.get("internalParameters")
    if not isinstance(parameters, dict) or not isinstance(versions, dict):
        raise ImageError(f"externalParameters: found {shown(parameters)}, expected an object")
    if source is None:
        raise ImageError("resolvedDependencies: found no commit: it was not built in a clone")
    changed = _notes(source).get("changed")
    details = statement.predicate.get("runDetails")
    builder = (details.get("builder") or {}).get("id") if isinstance(details, dict) else ""
    return Recipe(
        commit=str(_digests(source)["gitCommit"]),
        parameters=parameters,
        versions=versions,
        tools={str(each["name"]): str(_notes(each)["version"]) for each in entries if "version" in _notes(each)},
        bases={str(each["uri"]): str(_digests(each).get("sha256")) for each in entries if "base" in _notes(each)},
        changed=tuple(map(str, changed)) if isinstance(changed, list) else (),
        builder=str(builder or ""),
    )


def _digests(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("digest")
    return found if isinstance(found, dict) else {}


def _notes(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("annotations")
    return found if isinstance(found, dict) else {}


def _source(checkout: Checkout | None) -> Iterable[Mapping[str, Any]]:
    """The commit (in-toto, resource_descriptor.md), and the files that differ from it."""
    if checkout is None:
        return
    uri = {"uri": f"git+{checkout.url}"} if checkout.url else {"name": "source"}
    changed = {"annotations": {"changed": sorted(checkout.changed)}} if checkout.changed else {}
    yield {**uri, "digest": {"gitCommit": checkout.commit}, **changed}


def _tools(tools: Iterable[Tool]) -> Iterable[Mapping[str, Any]]:
    """Each compiler once for each digest that it may have: a wheel is another file on each kind of machine."""
    for tool in dict.fromkeys(tools):
        entry = {"name": tool.name, **({"uri": tool.uri} if tool.uri else {})}
        version = {"annotations": {"version": tool.version}}
        yield from ({**entry, "digest": _sha256(each), **version} for each in tool.digests)
        if not tool.digests:
            yield {**entry, **version}


def _bases(bases: Iterable[Origin]) -> Iterable[Mapping[str, Any]]:
    for base in dict.fromkeys((each.name, each.digest) for each in bases):
        yield {"uri": f"docker://{base[0]}", "digest": _sha256(base[1]), "annotations": {"base": True}}


def _sha256(digest: str) -> Mapping[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
