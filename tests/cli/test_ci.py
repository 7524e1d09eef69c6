"""What CI systems are told: the matrix to fan out by, the outputs of a step, and its summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.checkout import RELEASE, SETTINGS, Checkout, Run, results
from tests.support.pipelines import outputs
from tests.support.registries import Recorder, registry

Released = tuple[Checkout, Run]
OTHERS = ["build", "container", "orphan", "clean"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The files of a step, as the runner makes them: empty."""
    paths = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for path in paths.values():
        path.touch()
    return {name: str(path) for name, path in paths.items()}


def told(files: dict[str, str]) -> dict[str, str]:
    return outputs(Path(files["GITHUB_OUTPUT"]))


def rows(files: dict[str, str]) -> list[list[str]]:
    """The cells of the summary's tables, without their headings."""
    lines = Path(files["GITHUB_STEP_SUMMARY"]).read_text().splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def test_the_matrix_is_one_line_that_github_reads(released: Released) -> None:
    checkout, _ = released
    run = checkout("matrix")
    assert run.stdout.count("\n") == 1
    assert json.loads(run.stdout) == {
        "include": [{"arch": arch, "platform": str(SETTINGS.arches[arch].platform)} for arch in RELEASE]
    }


def test_the_matrix_is_an_output_whoever_it_is_printed_for(released: Released, files: dict[str, str]) -> None:
    checkout, _ = released
    run = checkout("matrix", **files)
    assert told(files) == {"matrix": run.stdout.strip()}
    assert Path(files["GITHUB_STEP_SUMMARY"]).read_text() == ""


def test_the_matrix_has_the_arches_that_are_asked_for(released: Released) -> None:
    checkout, _ = released
    printed = checkout("matrix", "--for", "gitlab", "--arch", "s390x", "--arch", "386").stdout
    assert json.loads(printed) == {"push": {"parallel": {"matrix": [{"ARCH": ["s390x", "386"]}]}}}
    assert results(checkout("matrix", "--json", ALL_ARCH="arm")) == [
        {"kind": "job", "arch": "arm", "platform": "linux/arm/v7"}
    ]


def test_a_system_that_is_not_known(released: Released) -> None:
    checkout, _ = released
    assert checkout.refuses(2, "matrix", "--for", "gitlba").startswith("unknown --for 'gitlba': did you mean 'gitlab'?")


def test_a_release_is_told_by_its_list(checkout: Checkout, files: dict[str, str], recorder: Recorder) -> None:
    run = checkout("all-push", REGISTRY=f"{recorder.host}/team", **files)
    published = run.digests[f"{recorder.host}/team/pause:3.1"]
    found = told(files)
    assert json.loads(found.pop("digests")) == run.digests
    assert found == {"digest": published, "reference": f"{recorder.host}/team/pause@{published}"}
    platforms = ["manifest list", *(str(SETTINGS.arches[arch].platform) for arch in RELEASE)]
    assert rows(files) == [
        [name, platform, digest, "pushed"]
        for (name, digest), platform in zip(run.digests.items(), platforms, strict=True)
    ]


def test_tasks_of_one_job_add_to_what_is_there(checkout: Checkout, files: dict[str, str]) -> None:
    Path(files["GITHUB_OUTPUT"]).write_text("mine=1\n")
    checkout("push", "--arch", "arm", **files)
    arm = told(files)
    assert arm["reference"].startswith("oci:dist/pause-arm@sha256:")
    checkout("push", "--arch", "arm64", **files)
    found = told(files)
    assert found["mine"] == "1"
    assert found["reference"].startswith("oci:dist/pause-arm64@sha256:")
    assert [row[1] for row in rows(files)] == ["linux/arm/v7", "linux/arm64"]


def test_images_without_a_list_have_no_one_digest(checkout: Checkout, files: dict[str, str]) -> None:
    run = checkout("push", "--arch", "arm", "--arch", "arm64", **files)
    assert {name: json.loads(value) for name, value in told(files).items()} == {"digests": run.digests}


def test_several_lists_stand_in_several_lines(
    checkout: Checkout, files: dict[str, str], recorder: Recorder, tmp_path: Path
) -> None:
    """An output of several lines ends where it should, whatever it holds."""
    with registry(tmp_path / "second") as second:
        places = [f"{recorder.host}/a", f"{second}/b"]
        run = checkout("all-push", *(word for place in places for word in ("--registry", place)), **files)
    checkout("push", "--arch", "arm", **files)
    lists = [f"{place}/pause@{run.digests[f'{place}/pause:3.1']}" for place in places]
    text = Path(files["GITHUB_OUTPUT"]).read_text()
    ends = [line.partition("<<")[2] for line in text.splitlines() if "<<" in line]
    assert len(ends) == len(set(ends)) == 2
    before_the_last, _, _ = text.rpartition("digests=")
    Path(files["GITHUB_OUTPUT"]).write_text(before_the_last)
    assert told(files)["reference"].splitlines() == lists


def test_a_dry_run_tells_its_plan_and_gives_no_output(checkout: Checkout, files: dict[str, str]) -> None:
    run = checkout("--dry", "all-push", **files)
    checkout("--dry", "matrix", **files)
    assert Path(files["GITHUB_OUTPUT"]).read_text() == ""
    assert "`all-push` (dry run): nothing is changed" in Path(files["GITHUB_STEP_SUMMARY"]).read_text()
    assert [row[2] for row in rows(files)] == list(run.digests.values())


def test_a_failure_tells_nothing(checkout: Checkout, files: dict[str, str], recorder: Recorder) -> None:
    checkout.refuses(1, "push-manifest", REGISTRY=recorder.host, **files)
    assert [Path(path).read_text() for path in files.values()] == ["", ""]


@pytest.mark.parametrize("task", OTHERS)
def test_what_is_not_published_is_not_told(checkout: Checkout, files: dict[str, str], task: str) -> None:
    checkout(task, **files)
    assert [Path(path).read_text() for path in files.values()] == ["", ""]


def test_check_tells_what_it_proved(released: Released, files: dict[str, str]) -> None:
    checkout, run = released
    checkout("check", **files)
    assert told(files)["digest"] == run.digests["oci:dist/pause:3.1"]
    assert {row[3] for row in rows(files)} == {"verified"}


@pytest.mark.parametrize("variable", ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
def test_a_file_that_cannot_be_written_is_one_message(checkout: Checkout, tmp_path: Path, variable: str) -> None:
    path = tmp_path / "missing" / "file"
    run = checkout.ends("push", **{variable: str(path)})
    assert run.code == 1
    assert list(run.digests) == ["oci:dist/pause-amd64:3.1"]  # which is there
    message = run.stderr.partition("\npush: ")[2]
    assert message.startswith(f"{variable} {path}: can't be written: No such file or directory\n")
    assert "Traceback" not in run.stderr


def test_a_variable_that_is_empty_names_no_file(checkout: Checkout) -> None:
    checkout("push", GITHUB_OUTPUT="", GITHUB_STEP_SUMMARY="")
