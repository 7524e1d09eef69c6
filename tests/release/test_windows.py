"""Windows in the list, from Linux: made, proved, copied and read by others, for three versions of Windows."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import RELEASE, Checkout, Run
from tests.support.components import need
from tests.support.reading import inspect, skopeo
from tests.support.registries import Recorder, registry_reader
from tests.support.strangers import Json, Shelf, proved, tape
from tests.support.windows import VERSIONS, image, with_bases

ALL = ("--arch", "linux", "--arch", "windows")
LINUX = ["linux/amd64", "linux/arm/v7", "linux/arm64", "linux/ppc64le", "linux/s390x"]
WINDOWS = [f"windows({version})/amd64" for version in VERSIONS.values()]


def named(platform: Json) -> str:
    """A platform as we write it."""
    version = f"({platform['os.version']})" if "os.version" in platform else ""
    variant = f"/{platform['variant']}" if "variant" in platform else ""
    return f"{platform['os']}{version}/{platform['architecture']}{variant}"


def listed(reference: str) -> list[str]:
    """The platforms in a list, as skopeo reads them, in its order."""
    _, listing = inspect(reference, "--raw")
    return [named(each["platform"]) for each in listing["manifests"]]


@pytest.fixture
def pushed(checkout: Checkout, recorder: Recorder) -> tuple[Checkout, str, Run]:
    with_bases(checkout)
    return checkout, recorder.host, checkout("all-push", *ALL, REGISTRY=recorder.host)


def test_eight_entries_that_others_read(pushed: tuple[Checkout, str, Run]) -> None:
    checkout, host, run = pushed
    assert listed(f"docker://{host}/pause:3.1") == [*LINUX, *WINDOWS]
    for row, version in VERSIONS.items():
        _, config = inspect(f"docker://{host}/pause-{row}:3.1", "--config")
        assert (config["os"], config["architecture"], config["os.version"]) == ("windows", "amd64", version)
        assert config["config"]["Entrypoint"] == ["/pause.exe"]
        assert config["config"]["Env"] == [r"PATH=C:\Windows\system32;C:\Windows"]
        assert config["config"]["User"] == "ContainerUser", "as the base has it"
        # skopeo, as a node of this version would: os, architecture, and the entry's own digest.
        digest = run.digests[f"{host}/pause-{row}:3.1"]
        _, seen = inspect(f"docker://{host}/pause@{digest}")
        assert (seen["Os"], seen["Architecture"], len(seen["Layers"])) == ("windows", "amd64", 2)
    for words in (("check", *ALL), ("check", f"{host}/pause:3.1")):
        checked = checkout(*words, REGISTRY=host)
        assert all("variant of linux/arm/v7" in line for line in checked.stderr.splitlines()), checked.stderr
        assert len(checked.stdout.splitlines()) == len([*LINUX, *WINDOWS]) + 1
    again = checkout("all-push", *ALL, REGISTRY=host)
    assert again.digests == run.digests
    assert "compiled" not in again.stderr
    plan = checkout("plan", *ALL, REGISTRY=host)
    assert {line.split()[0] for line in plan.stdout.splitlines()} == {"kept"}


def test_docker_reads_the_list(pushed: tuple[Checkout, str, Run], tmp_path: Path) -> None:
    _, host, _ = pushed
    docker = need("docker", "docker.io")
    command = [docker, "--config", str(tmp_path), "manifest", "inspect", "--insecure", f"{host}/pause:3.1"]
    run = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert [named(each["platform"]) for each in json.loads(run.stdout)["manifests"]] == [*LINUX, *WINDOWS]


def test_the_layer_that_is_added(pushed: tuple[Checkout, str, Run], tmp_path: Path) -> None:
    _, host, _ = pushed
    skopeo(
        "copy", "--quiet", "--src-tls-verify=false", f"docker://{host}/pause-windows-1809:3.1", f"dir:{tmp_path}/one"
    )
    manifest = json.loads((tmp_path / "one/manifest.json").read_bytes())
    layer = (tmp_path / "one" / manifest["layers"][-1]["digest"].removeprefix("sha256:")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as archive:
        names = {each.name: each for each in archive}
    assert list(names) == ["Files", "Files/pause.exe", "Hives"]
    assert all("MSWINDOWS.rawsd" in each.pax_headers and each.uid == each.gid == 0 for each in names.values())


def test_linux_images_stay_what_they_are(checkout: Checkout, released: tuple[Checkout, Run]) -> None:
    """Beside Windows they are the same; and without it, so is their list."""
    _, before = released
    with_bases(checkout)
    checkout.git("reset", "--quiet", "--soft", "HEAD~1")
    rev = {"REV": "v3.1", "SOURCE_DATE_EPOCH": "0"}
    alone = checkout("all-push", "--registry", "oci:dist/alone", **rev)
    beside = checkout("all-push", *ALL, "--registry", "oci:dist/beside", **rev)
    for arch in RELEASE:
        name = f"pause-{arch}:3.1"
        assert alone.digests[f"oci:dist/alone/{name}"] == beside.digests[f"oci:dist/beside/{name}"]
    digest = "sha256:0e7ebfebe90dc1935bb5d1aaef53c750d23de986a5772f878f920023bd74beed"
    assert alone.digests["oci:dist/alone/pause:3.1"] == digest, "as in the README"
    assert len(before.digests) == len(RELEASE) + 1


def test_copies_archives_and_other_tasks(pushed: tuple[Checkout, str, Run]) -> None:
    checkout, host, run = pushed
    digest = run.digests[f"{host}/pause:3.1"]
    checkout("copy", host, "oci-archive:release.tar", *ALL)
    assert checkout("copy", "oci-archive:release.tar", "oci:dist/copy").digests["oci:dist/copy/pause:3.1"] == digest
    assert checkout("push-manifest", *ALL, "--registry", "oci:dist/copy").digests["oci:dist/copy/pause:3.1"] == digest
    checkout("check", *ALL, "--registry", "oci:dist/copy")
    jobs = json.loads(checkout("matrix", *ALL).stdout)["include"]
    assert [each["arch"] for each in jobs] == [*RELEASE, *VERSIONS]
    assert {each["platform"] for each in jobs[len(RELEASE) :]} == {"windows/amd64"}
    tar = checkout("container", "--arch", "windows-ltsc2022").digests
    assert tar["bin/pause-windows-ltsc2022.tar"] == run.digests[f"{host}/pause-windows-ltsc2022:3.1"]
    node = "windows(10.0.20348.1)/amd64"
    checkout("copy", f"{host}/pause:3.1", "oci:node:3.1", "--platform", "windows(10.0.26100)/amd64")
    assert listed(f"oci:{checkout.root}/node:3.1") == WINDOWS[1:], "Windows Server 2025 runs images of 2022, too"
    assert "found no image for" in checkout.refuses(
        1, "copy", f"{host}/pause:3.1", "oci:none:3.1", "--platform", node.replace("20348", "19044")
    )


def test_the_program_of_each_row_is_the_same(pushed: tuple[Checkout, str, Run]) -> None:
    checkout, _, _ = pushed
    programs = {(checkout.root / f"bin/pause-{row}").read_bytes() for row in VERSIONS}
    [program] = programs
    assert program.startswith(b"MZ")
    assert f"pause.c {checkout.version}\n".encode() in program


def test_a_swapped_image_is_told(pushed: tuple[Checkout, str, Run]) -> None:
    """A list whose entry names another Windows than the image itself, and tags that have each other's image."""
    checkout, host, run = pushed
    one, other = (f"{host}/pause-{row}:3.1" for row in ("windows-1809", "windows-ltsc2022"))
    for source, target in ((run.digests[one], other), (run.digests[other], one)):
        name = f"docker://{host}/pause@{source}"
        skopeo("copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", name, f"docker://{target}")
    checkout("check", *ALL, REGISTRY=host)  # each is in the list, and which tag names it is its base's affair
    _, listing = inspect(f"docker://{host}/pause:3.1", "--raw")
    listing["manifests"][-1]["platform"]["os.version"] = "10.0.99999.1"
    put(host, "pause", "wrong", listing)
    message = checkout.refuses(1, "check", f"{host}/pause:wrong")
    assert "found windows(10.0.26100.2894)/amd64 in the config, expected windows(10.0.99999.1)/amd64" in message


def put(host: str, name: str, tag: str, manifest: Json) -> None:
    """Publish a manifest as it is."""
    import urllib.request

    kind = {"Content-Type": manifest["mediaType"]}
    request = urllib.request.Request(
        f"http://{host}/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), kind, method="PUT"
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def program(architecture: str = "amd64", **fields: int) -> bytes:
    """The beginning of a PE file for this architecture."""
    machine = {"amd64": 0x8664, "arm64": 0xAA64, "386": 0x14C}[architecture]
    header = b"MZ".ljust(0x3C, b"\0") + (64).to_bytes(4, "little") + b"PE\0\0"
    kind = fields.get("kind", 0x22)
    coff = machine.to_bytes(2, "little") + bytes(14) + (240).to_bytes(2, "little") + kind.to_bytes(2, "little")
    return (header + coff + (0x20B).to_bytes(2, "little")).ljust(512, b"\0")


ENTRYPOINT: Json = {"Entrypoint": ["/app.exe"]}


def of_strangers(folder: Path, *entries: Any, tag: str = "1") -> str:
    shelf = Shelf(folder)
    return shelf.tag(tag, shelf.index(*(each(shelf) if callable(each) else each for each in entries)))


def test_images_of_others(tmp_path: Path) -> None:
    app = tape({"Files": None, "Files/App.exe": program(), "Hives": None})
    asked = of_strangers(
        tmp_path, *(lambda shelf, v=version: image(shelf, v, [app], ENTRYPOINT) for version in VERSIONS.values())
    )
    platforms, notes = proved(asked)
    assert platforms == ["list", *WINDOWS]
    assert notes == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"Files/app.exe": program("arm64")}, "PE machine: found IMAGE_FILE_MACHINE_ARM64"),
        ({"Files/app.exe": program(kind=0x2022)}, r"found a library \(DLL\)"),
        ({"Files/app.exe": b"\x7fELF" + bytes(100)}, "not a PE file"),
        ({"Files/other.exe": program()}, "no program '/app.exe' in the layers"),
        ({"app.exe": program()}, "no program '/app.exe' in the layers"),
    ],
)
def test_faults_in_images_of_others(tmp_path: Path, files: dict[str, bytes], complaint: str) -> None:
    asked = of_strangers(tmp_path, lambda shelf: image(shelf, "10.0.20348.1", [tape(files)], ENTRYPOINT))
    with pytest.raises(Exception, match=complaint):
        proved(asked)


def test_what_lists_and_configs_leave_out_is_a_note(tmp_path: Path) -> None:
    app = tape({"Files/app.exe": program()})
    shelf = Shelf(tmp_path)
    bare, full = image(shelf, "", [app], ENTRYPOINT), image(shelf, "10.0.20348.1", [app], ENTRYPOINT)
    bare["platform"]["os.version"] = "10.0.17763.1"
    platforms, notes = proved(shelf.tag("1", shelf.index(bare, full)))
    assert platforms == ["list", "windows/amd64", "windows(10.0.20348.1)/amd64"]
    assert len(notes) == 1
    assert "os.version: found 10.0.17763.1 in the list's entry, and none in the config" in notes[0]


def test_two_entries_for_one_windows_are_noted(tmp_path: Path) -> None:
    one, other = (tape({"Files/app.exe": program(), f"Files/{name}": b""}) for name in "ab")
    asked = of_strangers(
        tmp_path, *(lambda shelf, app=app: image(shelf, "10.0.20348.1", [app], ENTRYPOINT) for app in (one, other))
    )
    _, notes = proved(asked)
    assert any("2 images for windows(10.0.20348.1)/amd64: clients may use either" in note for note in notes)


def test_layers_that_only_microsoft_has(tmp_path: Path) -> None:
    """The program is in a layer above: it is proved all the same."""
    shelf = Shelf(tmp_path)
    entry = image(shelf, "10.0.17763.1", [tape({"Files/app.exe": program("arm64")})], ENTRYPOINT)
    manifest = shelf.read(entry)
    manifest["layers"][0]["urls"] = ["https://mcr.example/layer"]
    moved = {**shelf.json(manifest, "manifest"), "platform": entry["platform"]}
    with pytest.raises(Exception, match="PE machine: found IMAGE_FILE_MACHINE_ARM64"):
        proved(shelf.tag("1", shelf.index(moved)))
    manifest["layers"][1]["urls"] = ["https://mcr.example/layer"]
    moved = {**shelf.json(manifest, "manifest"), "platform": entry["platform"]}
    _, notes = proved(shelf.tag("1", shelf.index(moved)))
    assert any("program not checked: no program '/app.exe'" in note for note in notes)


def edited(checkout: Checkout, base: Json, shelf: Shelf) -> str:
    """A checkout whose windows-1809 has another base; what `container` says of it."""
    with_bases(checkout)
    shelf.tag("1", base)
    old = f"base: oci:{checkout.side / 'bases/windows-1809'}:1"
    checkout.edit("arches.yaml", old, f"base: oci:{shelf.folder}:1")
    return checkout.refuses(1, "container", "--arch", "windows-1809")


def test_bases_that_do_not_say_which_windows(checkout: Checkout, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "other")
    message = edited(checkout, shelf.index(image(shelf, "")), shelf)
    assert "Dockerfile.windows.j2 (windows-1809): found FROM oci:" in message
    assert "without os.version in its config, expected a base for Windows" in message


def test_bases_of_several_windows(checkout: Checkout, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "other")
    index = shelf.index(*(image(shelf, version) for version in VERSIONS.values()))
    message = edited(checkout, index, shelf)
    assert "found 3 images for windows/amd64, expected one" in message
    assert all(each in message for each in WINDOWS)
    assert "name one of them in the row's base" in message


def test_bases_for_linux(checkout: Checkout, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "other")
    message = edited(checkout, shelf.index(shelf.image()), shelf)
    assert "found no image for windows/amd64" in message


def test_a_moved_base_builds_again(pushed: tuple[Checkout, str, Run]) -> None:
    checkout, host, _ = pushed
    shelf = Shelf(checkout.side / "bases/windows-ltsc2022")
    shelf.tag("1", shelf.index(image(shelf, "10.0.20348.9999")))
    plan = checkout("plan", "--arch", "windows-ltsc2022", "--overwrite", REGISTRY=host)
    assert "bin/pause-windows-ltsc2022.tar" in plan.stdout
    assert "base oci:" in plan.stdout


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("WORKDIR /app", "not supported in images for Windows"),
        ("COPY --chown=1:1 pause.c /x", "found --chown, expected none"),
        ("CMD dir", "expected the exec form"),
        (r"COPY pause.c D:/x", "found a path on drive D:"),
    ],
)
def test_what_dockerfiles_for_windows_cannot_have(checkout: Checkout, line: str, complaint: str) -> None:
    with_bases(checkout)
    file = checkout.root / "Dockerfile.windows.j2"
    file.write_text(f"{file.read_text()}{line}\n")
    message = checkout.refuses(1, "container", "--arch", "windows-1809")
    assert "Dockerfile.windows.j2:6" in message
    assert complaint in message


def test_a_program_for_another_cpu_in_the_image(checkout: Checkout) -> None:
    with_bases(checkout)
    (checkout.root / "windows/tool.exe").write_bytes(program("arm64"))
    file = checkout.root / "Dockerfile.windows.j2"
    file.write_text(f"{file.read_text()}COPY windows/tool.exe C:/Windows/\n")
    message = checkout.refuses(1, "container", "--arch", "windows-1809")
    assert "tool.exe (windows-1809): PE machine: found IMAGE_FILE_MACHINE_ARM64" in message


def test_the_docker_engine_refuses_by_name(checkout: Checkout, docker: Any) -> None:
    with_bases(checkout)
    message = checkout.refuses(
        1, "container", "--arch", "windows", "--engine", "docker", "--compiler", "zig", DOCKER_HOST=docker.host
    )
    assert message.startswith("windows-1809, windows-ltsc2022, windows-ltsc2025: a daemon on Linux can't build images")


def test_groups_and_what_has_none(checkout: Checkout) -> None:
    assert set(checkout("build", "--arch", "windows").digests) == {f"bin/pause-{row}" for row in VERSIONS}
    assert set(checkout("build", ARCH="linux").digests) == {f"bin/pause-{arch}" for arch in RELEASE}
    assert checkout("matrix", ALL_ARCH="windows amd64").stdout.count('"arch"') == len(VERSIONS) + 1
    assert "bin/orphan-amd64" in checkout("orphan", "--arch", "amd64", "--arch", "windows").digests
    table = (checkout.root / "arches.yaml").read_text()
    start, end = table.index("    windows:\n      dockerfile"), table.index('    user: "65535')
    (checkout.root / "arches.yaml").write_text(table[:start] + table[end:])
    message = checkout.refuses(2, "build", "--arch", "windows")
    assert "arch 'windows': no selected image is built for it" in message
    assert "pause: every arch but Windows" in message


def test_reader_of_the_registry(pushed: tuple[Checkout, str, Run]) -> None:
    """As crane does: follow the list to every blob, with plain HTTP."""
    from tests.support.reading import complete

    _, host, run = pushed
    assert len(complete(registry_reader(host, "pause"), run.digests[f"{host}/pause:3.1"])) > 8


def test_signed_and_built_again(checkout: Checkout) -> None:
    with_bases(checkout)
    openssl, key, public = need("openssl", "openssl"), checkout.side / "key.pem", checkout.side / "public.pem"
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    subprocess.run([openssl, "genpkey", *curve, "-out", key], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", key, "-pubout", "-out", public], check=True)
    checkout("all-push", *ALL, "--sign", str(key))
    checkout("check", *ALL, "--key", str(public))
    again = checkout("rebuild", "oci:dist/pause:3.1", "--key", str(public)).stdout.splitlines()
    assert {line.split()[0] for line in again} == {"same"}
    assert [line.split()[-1] for line in again[-len(WINDOWS) :]] == WINDOWS
