"""The pipelines: linted, and rehearsed with their own commands against a registry that wants a password."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import RELEASE, REPOSITORIES, SOURCE, Checkout, Run
from tests.support.components import need
from tests.support.keys import key_pair, openssl
from tests.support.logins import PASSWORD, USER
from tests.support.pipelines import INSTALL, WORKFLOWS, Machine, load, script, variables, workflow
from tests.support.reading import digest, skopeo

Released = tuple[Checkout, Run]
PARENT, CHILD = SOURCE / ".gitlab-ci.yml", SOURCE / ".gitlab" / "release.yml"
SCHEMAS = {
    "vendor.github-workflows": sorted(WORKFLOWS.glob("*.yml")),
    "vendor.gitlab-ci": [PARENT, CHILD],
}


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def published(host: str) -> dict[str, str]:
    """The digests in the registry, as skopeo sees them with the password."""
    login = ("--tls-verify=false", f"--creds={USER}:{PASSWORD}")
    return {
        name: digest(skopeo("inspect", "--raw", *login, f"docker://{host}/team/{name}:3.1")) for name in REPOSITORIES
    }


def expected(released: Released) -> dict[str, str]:
    """The digests of one `all-push` in another clone."""
    _, run = released
    return {name: run.digests[f"oci:dist/{name}:3.1"] for name in REPOSITORIES}


def contexts(host: str) -> dict[str, Any]:
    return {
        "vars": {"REGISTRY": f"{host}/team", "REGISTRY_USER": USER},
        "secrets": {"REGISTRY_PASSWORD": PASSWORD},
    }


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_files_have_the_form_that_their_systems_take(schema: str) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", schema, *map(str, SCHEMAS[schema])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert SCHEMAS[schema]


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    command = [tool("zizmor"), "--offline", "--no-config", "--persona=auditor", "--no-progress", str(WORKFLOWS)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(path.name in run.stderr for path in WORKFLOWS.iterdir())


def test_nothing_runs_unasked_nor_in_a_fork() -> None:
    for path in WORKFLOWS.iterdir():
        document = load(path)
        triggers = document["on"]
        assert set(triggers) <= {"push", "workflow_dispatch"}
        assert triggers.get("push", {"tags": ["v*"]}) == {"tags": ["v*"]}
        for job in document["jobs"].values():
            assert "needs" in job or job["if"] == "vars.REGISTRY != ''"
            assert job["permissions"] == {"contents": "read"}


def test_the_documentation_names_what_is_to_be_set() -> None:
    page = (SOURCE / "docs" / "ci.md").read_text()
    wanted = {name for path in WORKFLOWS.iterdir() for name in re.findall(r"(?:vars|secrets)\.(\w+)", path.read_text())}
    signing = {"SIGN_KEY", "COSIGN_PRIVATE_KEY", "COSIGN_PASSWORD"}
    assert wanted == {"REGISTRY", "REGISTRY_USER", "REGISTRY_PASSWORD", *signing}
    assert all(f"`{name}`" in page for name in wanted)


def test_they_install_as_the_readme_says() -> None:
    assert f"{INSTALL} && .venv/bin/invoke all-push" in (SOURCE / "README.md").read_text().splitlines()
    for path in WORKFLOWS.iterdir():
        for job in load(path)["jobs"].values():
            assert INSTALL in [step.get("run") for step in job["steps"]]


def test_jobs_that_compile_know_the_history_as_a_clone_does() -> None:
    """The revision is named after a tag, if there is one: a shallow clone would give other digests."""
    for path in WORKFLOWS.iterdir():
        for job in load(path)["jobs"].values():
            compiles = any(
                "invoke push " in step.get("run", "") or "all-push" in step.get("run", "") for step in job["steps"]
            )
            [checkout] = [step["with"] for step in job["steps"] if "uses" in step]
            assert checkout.get("fetch-depth") == (0 if compiles else None)
    assert load(CHILD)["variables"]["GIT_DEPTH"] == "0"


def test_five_jobs_push_and_a_sixth_makes_the_list(
    released: Released, source: Checkout, basic: str, tmp_path: Path
) -> None:
    need("docker", "docker.io")
    machines = workflow(WORKFLOWS / "release.yml", source, tmp_path / "machines", contexts(basic))
    assert [len(there) for there in machines.values()] == [1, len(RELEASE), 1]
    assert published(basic) == expected(released)
    for arch, machine in zip(RELEASE, machines["push"], strict=True):
        assert {path.name for path in (machine.checkout.root / "bin").iterdir()} == {
            f"pause-{arch}",
            f"pause-{arch}.tar",
        }
    for machine in (each for there in machines.values() for each in there):
        assert PASSWORD not in machine.said


def test_what_the_jobs_tell_of_the_list(released: Released, source: Checkout, basic: str, tmp_path: Path) -> None:
    need("docker", "docker.io")
    [machine] = workflow(WORKFLOWS / "release-in-one-job.yml", source, tmp_path / "machines", contexts(basic))[
        "all-push"
    ]
    assert published(basic) == expected(released)
    told = machine.outputs
    assert told["reference"] == f"{basic}/team/pause@{expected(released)['pause']}"
    assert told["digest"] == expected(released)["pause"]
    assert json.loads(told["digests"]) == {
        f"{basic}/team/{name}:3.1": each for name, each in expected(released).items()
    }
    summary = (machine.checkout.side / "summary").read_text()
    assert all(each in summary for each in expected(released).values())


@pytest.mark.parametrize(
    ("name", "job", "kinds"),
    [
        ("release-in-one-job.yml", "all-push", ["signature", "provenance", "SBOM"]),
        ("release.yml", "push-manifest", ["signature"]),
    ],
)
def test_they_sign_with_the_key_in_the_secrets(
    source: Checkout, basic: str, tmp_path: Path, name: str, job: str, kinds: list[str]
) -> None:
    """Only the step that publishes the list has the key; the summary says what is signed, and by which key."""
    need("docker", "docker.io")
    keys = key_pair(tmp_path / "keys", password="open sesame")
    given = contexts(basic)
    given["vars"]["SIGN_KEY"] = "env://COSIGN_PRIVATE_KEY"
    given["secrets"] |= {"COSIGN_PRIVATE_KEY": keys.private.read_text(), "COSIGN_PASSWORD": "open sesame"}
    machines = workflow(WORKFLOWS / name, source, tmp_path / "machines", given)
    [machine] = machines[job]
    summary = (machine.checkout.side / "summary").read_text()
    rows = [row.split(" | ") for row in summary.splitlines() if row.endswith("| signed |")]
    assert [row[2] for row in rows][1:] == [", ".join(kinds)] * len(RELEASE)
    der = openssl("pkey", "-pubin", "-in", str(keys.public), "-outform", "DER")
    hint = openssl("base64", "-A", data=openssl("dgst", "-sha256", "-binary", data=der)).decode()
    assert {row[3] for row in rows} == {f"`{hint}`"}
    for each in (each for there in machines.values() for each in there):
        assert "open sesame" not in each.said
        assert "PRIVATE KEY-----" not in each.said
    for file, document in ((path, load(path)) for path in WORKFLOWS.iterdir()):
        steps = [step for each in document["jobs"].values() for step in each["steps"] if "SIGN_KEY" in str(step)]
        assert len(steps) == 1, file


def test_gitlabs_jobs_push_and_the_last_makes_the_list(
    released: Released, source: Checkout, basic: str, tmp_path: Path
) -> None:
    given = {
        "CI_REGISTRY": basic,
        "CI_REGISTRY_IMAGE": f"{basic}/team",
        "CI_REGISTRY_USER": USER,
        "CI_REGISTRY_PASSWORD": PASSWORD,
    }
    first = Machine.new(source, tmp_path / "matrix")
    first.run(("sh", "-e"), script(load(PARENT), "matrix"), **given)
    [artifact] = load(PARENT)["matrix"]["artifacts"]["paths"]
    added = load(first.checkout.root / artifact)

    child = load(CHILD)
    child["push"] |= added.pop("push")  # as `include` merges files
    assert not added
    merged = tmp_path / "merged.yml"
    merged.write_text(json.dumps(child))
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", str(merged)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0

    [row] = child["push"]["parallel"]["matrix"]
    assert list(row) == ["ARCH"]
    machines = [Machine.new(source, tmp_path / f"machine-{arch}") for arch in row["ARCH"]]

    def push(machine: Machine, arch: str) -> None:
        machine.run(("sh", "-e"), script(child, "push"), **variables(child, {**given, "ARCH": arch}))

    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(push, machines, row["ARCH"]))
    last = Machine.new(source, tmp_path / "last")
    last.run(("sh", "-e"), script(child, "push-manifest"), **variables(child, given))
    assert published(basic) == expected(released)
    assert all(PASSWORD not in machine.said for machine in (first, last, *machines))
