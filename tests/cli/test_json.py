"""What --json prints: one document for every task, as docs/output.schema.json says, however the task ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.cli.test_interrupts import STATUS, every_signal, nothing_is_left
from tests.cli.test_run import waiting_for
from tests.support.checkout import RELEASE, SOURCE, TIMEOUT, Checkout, Run, document, ended, results
from tests.support.faults import Faulty, answering, faulty, matching, stalled
from tests.support.keys import key_pair
from tests.support.pidns import Process, until
from tests.support.pipelines import outputs
from tests.support.registries import Recorder, registry_tags

Released = tuple[Checkout, Run]
TWO = ("--arch", "amd64", "--arch", "arm")

# Without a daemon; the results are of these kinds.
TASKS: dict[str, tuple[str, set[str]]] = {
    "build": ("build", {"file"}),
    "orphan": ("orphan --arch arm", {"file"}),
    "container": ("container", {"file"}),
    "all-container": ("--dry all-container", {"file"}),
    "push": ("push", {"image"}),
    "all-push-images": ("all-push-images", {"image"}),
    "push-manifest": ("push-manifest", {"list", "image"}),
    "all-push": ("all-push", {"list", "image"}),
    "plan": ("plan", {"file", "list", "image"}),
    "copy": ("copy oci:dist oci-archive:release.tar", {"list", "image"}),
    "tags": ("tags", {"tag"}),
    "sign": ("sign oci:dist/pause:3.1 --sign private.pem", {"signed"}),
    "rebuild": ("rebuild oci:dist/pause:3.1 --key public.pem", {"rebuilt"}),
    "retag": ("retag oci:dist/pause:3.1 stable", {"list"}),
    "diff": ("diff oci:dist/pause-amd64:3.1 oci:dist/pause:3.1", {"difference"}),
    "verify": ("verify --arch amd64 --allow-not-run", {"run"}),
    "check": ("check", {"list", "image"}),
    "use": ("use", {"setting"}),
    "matrix": ("matrix", {"job"}),
    "bake": ("bake --registry registry.example/team", {"file"}),
    "kube-cross": ("--dry kube-cross", {"daemon-image"}),
    "clean": ("--dry clean", {"file"}),
}


@pytest.fixture
def proxy(recorder: Recorder) -> Iterator[Faulty]:
    """A registry that answers as planned."""
    with faulty(recorder.host) as made:
        yield made


def published(found: list[dict[str, Any]]) -> dict[str, str]:
    """What the results say is published: digests by repository."""
    return {each["repository"]: each["digest"] for each in found if each["change"] in ("pushed", "kept")}


def test_the_schema_is_one() -> None:
    schema = json.loads((SOURCE / "docs/output.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(f":{schema['properties']['version']['const']}")


def test_every_task_has_a_document(released: Released) -> None:
    listed = released[0]("--list", "--list-format", "json").stdout
    assert sorted(TASKS) == sorted(each["name"] for each in json.loads(listed)["tasks"])


@pytest.mark.parametrize("task", TASKS)
def test_one_document_for(checkout: Checkout, recorder: Recorder, task: str) -> None:
    words, kinds = TASKS[task]
    environment = {"ALL_ARCH": "amd64 arm", "REV": "same"}
    if task == "use":
        environment["REGISTRY"] = recorder.host
    if task in ("sign", "rebuild"):
        key_pair(checkout.root)
        environment["SIGN_KEY"] = "private.pem"
    if task in ("push-manifest", "copy", "check", "tags", "retag", "diff", "use", "clean", "sign", "rebuild"):
        checkout("all-push", **environment)
    run = checkout(*words.split(), "--json", **environment)
    found = document(run)
    assert (found["task"], found["dry"]) == (task, "--dry" in words or task == "plan")
    assert {each["kind"] for each in found["results"]} == kinds
    for each in found["results"]:
        if each["kind"] in ("image", "list"):
            assert each["arch"] == (each["platform"] and {"amd64": "amd64", "arm/v7": "arm"}[each["platform"][6:]])
        if each["kind"] == "file" and task in ("build", "orphan", "container", "bake"):
            assert each["size_bytes"] == (checkout.root / each["path"]).stat().st_size


def test_where_an_image_is(checkout: Checkout, recorder: Recorder) -> None:
    [found] = results(checkout("push", "--arch", "arm", "--json", REGISTRY=f"{recorder.host}/team"))
    place = {"registry": recorder.host, "repository": "team/pause-arm", "tag": "3.1"}
    assert found.items() >= {"reference": f"{recorder.host}/team/pause-arm:3.1", **place, "arch": "arm"}.items()
    assert found.items() >= {"platform": "linux/arm/v7", "change": "pushed"}.items()
    assert found["reasons"] == ["not in the registry"]


def test_figures_are_numbers(checkout: Checkout) -> None:
    [found] = results(checkout("verify", "--arch", "amd64", "--allow-not-run", "--json"))
    if found["method"] is None:
        pytest.skip("no user namespaces here")
    checks = {each["name"]: each for each in found["checks"]}
    assert checks["orphans"]["orphans"] == 1001
    assert checks["SIGTERM"]["figure"] == f"{checks['SIGTERM']['seconds'] * 1000:.1f} ms"
    assert checks["memory"]["resident_bytes"] % 1024 == 0


@pytest.mark.parametrize("failing", ["pause-arm", "pause"])
def test_what_was_published_before_a_failure(checkout: Checkout, proxy: Faulty, failing: str) -> None:
    checkout("push", REGISTRY=proxy.host, REV="same")  # amd64
    proxy.follow(matching(answering(403, "DENIED", "no"), "PUT", rf"/{failing}/manifests/3\.1$"))
    run = checkout.ends("all-push", "--json", REGISTRY=proxy.host, REV="same")
    found = document(run)
    assert (run.code, found["ok"]) == (1, False)
    there = registry_tags(proxy.upstream)
    assert len(there) == len(RELEASE) - (failing != "pause")
    assert published(found["results"]) == there
    assert [each["repository"] for each in found["results"] if each["change"] == "kept"] == ["pause-amd64"]


def test_what_one_of_two_registries_has(checkout: Checkout, proxy: Faulty) -> None:
    proxy.follow(matching(answering(403, "DENIED", "no"), "POST", ""))
    run = checkout.ends("all-push", *TWO, "--registry", proxy.host, "--registry", "oci:dist", "--json")
    assert run.code == 1
    assert {each["reference"] for each in results(run)} == {
        f"oci:dist/{name}:3.1" for name in ("pause", "pause-amd64", "pause-arm")
    }


def test_what_was_written_before_a_failure(checkout: Checkout) -> None:
    (checkout.root / "bin/pause-arm").mkdir(parents=True)
    run = checkout.ends("build", *TWO, "--json")
    assert run.code == 1
    assert [each["path"] for each in results(run)] == ["bin/pause-amd64"]


@every_signal
def test_what_was_published_before_a_signal(checkout: Checkout, proxy: Faulty, name: str) -> None:
    proxy.follow(matching(stalled, "PUT", r"/pause/manifests/3\.1$"))
    process = checkout.start("all-push", *TWO, "--json", REGISTRY=proxy.host)
    until("the list is sent", lambda: proxy.spoilt > 0 or process.poll() is not None, TIMEOUT)
    process.send_signal(getattr(signal, name))
    run = ended(process)
    assert run.code == STATUS[name]
    assert published(results(run)) == registry_tags(proxy.upstream)
    assert len(results(run)) == 2
    nothing_is_left(checkout)


@every_signal
def test_a_signal_before_there_is_anything(checkout: Checkout, name: str) -> None:
    table = checkout.root / "arches.yaml"
    table.unlink()
    os.mkfifo(table)
    process = checkout.start("build", "--json")
    with waiting_for(table, process):
        process.send_signal(getattr(signal, name))
        run = ended(process)
    assert (run.code, results(run)) == (STATUS[name], [])


@every_signal
def test_a_signal_outside_the_event_loop(checkout: Checkout, tmp_path: Path, name: str) -> None:
    """Results are complete, but the file for the CI system is a pipe that nobody reads."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = checkout.start("push", "--json", GITHUB_OUTPUT=str(pipe))
    line = "oci:dist/pause-amd64:3.1: pushed\n"
    assert process.stderr
    read = iter(process.stderr.readline, "")
    assert line in read
    until("it waits", lambda: Process(process.pid).state() == "S", TIMEOUT)
    process.send_signal(getattr(signal, name))
    run = ended(process)
    assert run.code == STATUS[name]
    assert [each["change"] for each in results(run)] == ["pushed"]


def test_wrong_usage_that_the_task_finds(released: Released) -> None:
    run = released[0].ends("all-push", "--tag", "not a tag", "--json")
    assert (run.code, results(run)) == (2, [])


def test_what_is_refused(checkout: Checkout, recorder: Recorder) -> None:
    checkout("push", "--rev", "old", REGISTRY=recorder.host)
    words = ("--arch", "amd64", "--rev", "new", "--json")
    plan = checkout.ends("plan", *words, REGISTRY=recorder.host)
    assert plan.code == 1
    assert [each["change"] for each in results(plan)] == ["made", "made", "refused", "pushed"]
    run = checkout.ends("push", *words, REGISTRY=recorder.host)
    assert (run.code, results(run)) == (1, [])


def test_a_file_of_the_ci_system_that_cannot_be_written(checkout: Checkout, tmp_path: Path) -> None:
    run = checkout.ends("push", "--json", GITHUB_OUTPUT=str(tmp_path / "missing/file"))
    assert run.code == 1
    assert document(run)["error"]["message"].startswith("GITHUB_OUTPUT ")
    assert [each["arch"] for each in results(run)] == ["amd64"]


def test_a_full_disk_for_the_document(checkout: Checkout) -> None:
    command = [sys.executable, "-m", "invoke", "build", "--json"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            command,
            cwd=checkout.root,
            env=checkout.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert "build: stdout: can't be written: No space left on device" in run.stderr.splitlines()


def test_each_image_of_a_list_has_a_digest_of_its_own(checkout: Checkout, recorder: Recorder, tmp_path: Path) -> None:
    run = checkout("all-push", REGISTRY=recorder.host)
    name = f"{recorder.host}/pause"
    file = tmp_path / "output"
    told = results(checkout("check", f"{name}:3.1", "--json", GITHUB_OUTPUT=str(file)))
    digests = list(run.digests.values())
    assert json.loads(outputs(file)["digests"]) == {
        f"{name}{f' {platform}' if platform else ':3.1'}": digest
        for platform, digest in zip([each["platform"] for each in told], digests, strict=True)
    }
    file.unlink()
    checkout("check", f"{name}@{digests[0]}", GITHUB_OUTPUT=str(file))
    assert outputs(file)["reference"] == f"{name}@{digests[0]}"
