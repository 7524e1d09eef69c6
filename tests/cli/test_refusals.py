"""What a user can do wrong or meet with: one message that says what to do, an exit status, and nothing half-done."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.support.checkout import RELEASE, Checkout
from tests.support.components import lack, need
from tests.support.model_registry import Model, model_registry
from tests.support.registries import Recorder, serving


@pytest.fixture
def model() -> Iterator[Model]:
    """A registry whose headers can be changed."""
    with model_registry() as made:
        yield made


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], {"TAG": "not a tag"}, ["'not a tag'", "expected letters, digits"]),
        (["--tag", "-x"], {}, ["'-x'"]),
        ([], {"REGISTRY": "Registry.example/UPPER"}, ["UPPER/pause", "expected lower-case"]),
        ([], {"REGISTRY": "nodots"}, ["'nodots'", "oci:FOLDER", "docker.io/nodots", "nodots:PORT"]),
        ([], {"REGISTRY": "alice/"}, ["'alice'", "on Docker Hub: docker.io/alice"]),
        ([], {"REGISTRY": "http://localhost:5000"}, ["HOST[:PORT]"]),
        ([], {"REV": "a b"}, ["REV 'a b'"]),
        ([], {"SOURCE_DATE_EPOCH": "yesterday"}, ["SOURCE_DATE_EPOCH 'yesterday'", "seconds since 1970"]),
        ([], {"SOURCE_DATE_EPOCH": "-1"}, ["SOURCE_DATE_EPOCH '-1'"]),
        ([], {"FORMAT": "xml"}, ["unknown format 'xml'", "known: oci, docker"]),
        ([], {"CFLAGS": "'"}, ["CFLAGS"]),
        ([], {"IMAGE": "paws"}, ["unknown image 'paws'", "did you mean 'pause'"]),
        ([], {"REGISTRY": "localhost:99999"}, ["'localhost:99999/pause'", "found port 99999, expected 1 to 65535"]),
        ([], {"REGISTRY": "localhost:0/team"}, ["found port 0, expected 1 to 65535"]),
        (["--insecure-registry", "localhost:654321"], {}, ["found port 654321, expected 1 to 65535"]),
        ([], {"REGISTRY": "oci:README.md"}, ["'oci:README.md': found a file, expected a folder"]),
        (
            [],
            {"REGISTRY": "oci:../no/there"},
            ["'oci:../no/there': no such folder: ", "/no\n  create it", "mkdir -p /"],
        ),
        ([], {"REGISTRY": "oci:/no/such/place"}, ["no such folder: /no/such\n", "mkdir -p /no/such"]),
        (["--arch", "amr64"], {}, ["unknown arch 'amr64'", "did you mean 'arm64'", ", ".join(RELEASE)]),
        ([], {"ALL_ARCH": "amd64 sparc"}, ["unknown arch 'sparc'"]),
    ],
)
def test_a_request_that_cannot_be_meant(
    checkout: Checkout, words: list[str], environment: dict[str, str], expected: list[str]
) -> None:
    before = checkout.snapshot()
    message = checkout.refuses(2, "all-push", *words, **environment)
    for word in expected:
        assert word in message
    assert checkout.snapshot() == before


@pytest.mark.parametrize("registry", ["oci:", "oci:/", "oci:a:b"])
def test_a_layout_without_a_folder_is_not_the_root(checkout: Checkout, registry: str) -> None:
    assert "oci:FOLDER" in checkout.refuses(2, "--dry", "all-push", "--registry", registry)
    assert "oci:FOLDER" in checkout.refuses(2, "--dry", "clean", "--registry", registry)


@pytest.mark.parametrize("task", ["build", "container", "push", "push-manifest"])
def test_every_task_names_the_nearest_arch(checkout: Checkout, task: str) -> None:
    assert "did you mean 's390x'" in checkout.refuses(2, task, "--arch", "s390")


def test_a_table_with_a_mistake_is_named_with_its_line(checkout: Checkout) -> None:
    checkout.edit("arches.yaml", "    platform: linux/s390x", "    plattform: linux/s390x")
    line = (checkout.root / "arches.yaml").read_text().splitlines().index("    plattform: linux/s390x") + 1
    message = checkout.refuses(2, "all-push")
    for word in (f"arches.yaml:{line}", "plattform"):
        assert word in message


@pytest.mark.parametrize("task", ["build", "all-push", "--dry all-push"])
def test_a_compile_error_in_the_compilers_words(checkout: Checkout, task: str) -> None:
    checkout("all-push", "--arch", "amd64", REV="fixed")
    with (checkout.root / "build/runtime/s390x.c").open("a") as file:
        file.write("nonsense;\n")
    line = (checkout.root / "build/runtime/s390x.c").read_text().count("\n")
    made = {path: look for path, look in checkout.snapshot().items() if path.startswith(("bin", "dist"))}
    message = checkout.refuses(1, *task.split(), "--arch", "all", REV="fixed")
    for word in ("pause for s390x: zig", f"build/runtime/s390x.c:{line}:1: error: ", "nonsense"):
        assert word in message
    assert not any(f"pause for {arch}" in message for arch in RELEASE if arch != "s390x")
    after = checkout.snapshot()
    assert {path: after[path] for path in made} == made
    new = {path for path in after if path.startswith(("bin/", "dist/"))} - set(made)
    assert new <= {f"bin/pause-{arch}" for arch in RELEASE if arch != "s390x"}
    assert list((checkout.side / "tmp").iterdir()) == []


def test_a_mistake_in_the_program_is_told_of_every_arch(checkout: Checkout) -> None:
    checkout.edit("pause.c", "int main(", "int man(")
    message = checkout.refuses(1, "all-push")
    for arch in RELEASE:
        assert f"pause for {arch}: zig" in message
    assert not (checkout.root / "bin").exists()
    assert not (checkout.root / "dist").exists()


def test_a_registry_that_is_not_there(checkout: Checkout) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        host = f"127.0.0.1:{bound.getsockname()[1]}"
        message = checkout.refuses(1, "all-push", "--timeout", "2", REGISTRY=host)
        assert host in message
        assert message.count("refused") == 1
        assert "5 more failed for the same reason" in message
        message = checkout.refuses(1, "push-manifest", "--timeout", "2", REGISTRY=host)
        assert message.count(host) == 1
        for task in ("check", "copy {host} oci:there"):
            words = task.format(host=host).split()
            message = checkout.refuses(1, *words, "--timeout", "2", **({"REGISTRY": host} if task == "check" else {}))
            assert message.count("http://") == 1


def test_a_registry_that_no_name_server_knows(checkout: Checkout) -> None:
    message = checkout.refuses(1, "push", REGISTRY="registry.invalid")
    assert "registry.invalid" in message


def test_a_machine_without_a_name_server(checkout: Checkout) -> None:
    """In a mount namespace of its own, where nothing listens at the address of the only name server."""
    (checkout.side / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    bound = ["sh", "-c", f'mount --bind {checkout.side}/resolv.conf /etc/resolv.conf && exec "$@"', "sh"]
    namespace = [need("unshare", "util-linux"), "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), *bound]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        lack("this machine makes no mount namespace, or has no /etc/resolv.conf")
    command = [*namespace, sys.executable, "-m", "invoke", "check", "--registry", "registry.example", "--timeout", "4"]
    environment = checkout.environment()
    run = subprocess.run(command, check=False, cwd=checkout.root, env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    message = run.stderr.partition("check: ")[2]
    assert message.count("no name server answers: Temporary failure in name resolution") == 1, run.stderr
    assert "5 more failed for the same reason" in message


@pytest.mark.parametrize("status", [200, 404, 405])
def test_a_web_server_that_is_no_registry(checkout: Checkout, status: int) -> None:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>Welcome</html>"
            self.send_response(status)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_POST = do_GET  # noqa: N815

    with serving(Pages) as host:
        for words in (["push", "--registry", host], ["check", f"{host}/some/image:1"], ["copy", host, "oci:there"]):
            message = checkout.refuses(1, *words)
            assert message.count(f"{host} is not a registry: GET http://{host}/v2/: found {status} ") == 1
            assert "a web page" in message


def test_a_registry_may_say_with_a_page_that_there_is_nothing(checkout: Checkout, model: Model) -> None:
    model.headers = lambda asked, headers: [("Content-Type", "text/html")] * ("manifests/" in asked.path) + headers
    assert "not found" in checkout.refuses(1, "check", f"{model.host}/some/image:1")


def test_a_registry_that_answers_nonsense(checkout: Checkout, recorder: Recorder) -> None:
    recorder.upstream = "127.0.0.1:1"  # then the recorder breaks off
    assert recorder.host in checkout.refuses(1, "push", "--timeout", "5", REGISTRY=recorder.host)


@pytest.mark.parametrize(("path", "code"), [("bin", 1), ("dist", 2), (".cache", 1), ("dist/pause-arm", 1)])
def test_a_file_where_a_folder_should_be(checkout: Checkout, path: str, code: int) -> None:
    (checkout.root / path).parent.mkdir(exist_ok=True)
    (checkout.root / path).write_text("mine")
    message = checkout.refuses(code, "all-push")
    assert message.count(path) == 1
    assert (checkout.root / path).read_text() == "mine"


@pytest.mark.parametrize("path", ["bin/pause-arm", "bin/pause-arm.tar"])
def test_a_folder_where_a_file_should_be(checkout: Checkout, path: str) -> None:
    (checkout.root / path).mkdir(parents=True)
    message = checkout.refuses(1, "all-push")
    assert str(checkout.root / path) in message
    assert not list((checkout.root / "bin").glob(".*"))


def test_a_layouts_index_that_is_none(checkout: Checkout) -> None:
    for nonsense in ("", "[]", '{"manifests": 1}'):
        (checkout.root / "dist/pause").mkdir(parents=True, exist_ok=True)
        (checkout.root / "dist/pause/index.json").write_text(nonsense)
        for task in ("all-push", "clean"):
            assert "dist/pause/index.json" in checkout.refuses(1, task)
        assert (checkout.root / "dist/pause/index.json").read_text() == nonsense


def test_docker_types_do_not_go_into_an_oci_layout(checkout: Checkout) -> None:
    """Skopeo and podman would find nothing in it."""
    message = checkout.refuses(2, "all-push", "--format", "docker")
    assert "oci:dist" in message
    assert not (checkout.root / "dist").exists()


def test_without_git_the_message_says_what_to_set(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / ".git")
    message = checkout.refuses(2, "all-push")
    for word in ("REV=", "SOURCE_DATE_EPOCH="):
        assert word in message
    checkout("all-push", REV="v3.1", SOURCE_DATE_EPOCH="0")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("COPY nosuch /a", "COPY nosuch: no such file in the checkout"),
        ("COPY docs /a", "COPY docs: .dockerignore excludes it from the build context"),
        ("ENTYPOINT x", "unknown instruction 'ENTYPOINT': did you mean 'ENTRYPOINT'?"),
    ],
)
def test_a_mistake_in_the_dockerfile_is_located_in_its_template(checkout: Checkout, line: str, found: str) -> None:
    checkout.edit("Dockerfile.j2", "USER ", "{% for _ in [1, 2] %}\nLABEL a=b\n{% endfor %}\n" + line + "\nUSER ")
    number = (checkout.root / "Dockerfile.j2").read_text().splitlines().index(line) + 1
    assert f"Dockerfile.j2:{number} (amd64): {found}" in checkout.refuses(1, "container")


def test_a_copied_file_that_is_gone_is_named(checkout: Checkout) -> None:
    checkout.edit("Dockerfile.j2", "USER ", "COPY README.md /a\nUSER ")
    checkout.edit(".dockerignore", "!pause.c\n", "!pause.c\n!README.md\n")
    checkout("container")
    (checkout.root / "README.md").unlink()
    assert "Dockerfile.j2:4 (amd64): COPY README.md: no such file" in checkout.refuses(1, "container")


def test_what_the_dockerfile_may_not_say_is_named(checkout: Checkout) -> None:
    for old, new, word in (
        ("FROM scratch", "FROM debian AS build\nFROM scratch", "FROM scratch"),
        ("USER ", "RUN true\nUSER ", "RUN"),
    ):
        checkout.edit("Dockerfile.j2", old, new)
        message = checkout.refuses(1, "all-push")
        assert "Dockerfile.j2" in message
        assert word in message
        assert "--engine docker" in message
        checkout.git("checkout", "--quiet", "Dockerfile.j2")
        assert not (checkout.root / "dist").exists()
