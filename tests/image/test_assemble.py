"""An image is assembled once, and again as soon as anything that it is made from changes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest

from build.cache.cache import Cache
from build.config.arches import Arch, ImageSettings
from build.config.parse import read_settings
from build.config.revision import Revision
from build.errors import ImageError
from build.image.assemble import assemble, image_inputs
from build.image.spec import Spec
from build.oci.descriptor import digest_of
from build.oci.image import Image
from build.oci.media_types import DOCKER, OCI, Format
from build.oci.platform import Platform

SETTINGS = read_settings(Path(__file__).parent.parent.parent / "arches.yaml")
BINARY = b"a static binary"
DOCKERFILE = "FROM scratch\nCOPY {{ binary }} /pause\nCOPY NOTICE /share/NOTICE\n"


class WrongBinaryError(Exception):
    """What the check of a binary raises in these tests."""


@dataclass
class Assembly:
    """A checkout, its cache, and how often its binary was checked."""

    spec: Spec
    cache: Cache
    binary: bytes = BINARY
    checks: int = 0

    @property
    def notice(self) -> Path:
        return self.spec.root / "NOTICE"

    def __call__(self) -> Image:
        return assemble(self.spec, self.binary, digest_of(self.binary), self.cache, self._check)

    def inputs(self, *before: str) -> dict[str, str]:
        return dict(image_inputs(self.spec, digest_of(self.binary), self.cache, before).files)

    def _check(self, image: Image, files: Mapping[str, bytes]) -> None:
        assert image.layers
        assert files == {"bin/pause-amd64": self.binary, "NOTICE": self.notice.read_bytes()}
        self.checks += 1


@pytest.fixture
def assembly(tmp_path: Path) -> Assembly:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "Dockerfile.j2").write_text(DOCKERFILE)
    (root / "NOTICE").write_text("free to use\n")
    (root / "NOTICE").chmod(0o644)
    spec = Spec(
        root=root,
        settings=SETTINGS.images["pause"],
        arch=SETTINGS.arches["amd64"],
        tag="3.1",
        revision=Revision("v3.1", 0),
        form=OCI,
        binary_path="bin/pause-amd64",
        names=("registry.example/pause-amd64:3.1",),
    )
    return Assembly(spec, Cache(tmp_path / "cache"))


def files(image: Image) -> dict[str, tuple[int, bytes | None]]:
    """Mode and content by path, as tarfile reads the layers."""
    found = {}
    for layer in image.layers:
        with tarfile.open(fileobj=io.BytesIO(layer.data)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                found[member.name] = (member.mode, content.read() if content else None)
    return found


def test_an_image_has_its_files_with_their_modes(assembly: Assembly) -> None:
    image = assembly()
    assert image.platform == Platform("linux", "amd64")
    assert files(image) == {
        "pause": (0o755, BINARY),
        "share": (0o755, None),
        "share/NOTICE": (0o644, b"free to use\n"),
    }


@pytest.mark.parametrize("form", [OCI, DOCKER])
def test_a_cached_image_is_the_assembled_one(assembly: Assembly, form: Format) -> None:
    assembly.spec = replace(assembly.spec, form=form)
    first, second = assembly(), assembly()
    assert second == first
    assert [layer.data for layer in second.layers] == [layer.data for layer in first.layers]
    assert (second.manifest.data, second.config.data) == (first.manifest.data, first.config.data)
    assert assembly.checks == 1


def test_without_a_cache_every_image_is_assembled_from_a_checkd_binary(assembly: Assembly) -> None:
    assembly.cache = replace(assembly.cache, keep=False)
    assert assembly() == assembly()
    assert assembly.checks == 2


def test_no_image_of_a_binary_that_fails_its_check_is_cached(assembly: Assembly) -> None:
    def fail(_: Image, __: Mapping[str, bytes]) -> None:
        raise WrongBinaryError

    for _ in range(2):
        with pytest.raises(WrongBinaryError):
            assemble(assembly.spec, BINARY, digest_of(BINARY), assembly.cache, fail)
    assert not assembly.cache.folder.exists()


def test_a_changed_file_is_in_the_next_image(assembly: Assembly) -> None:
    before = assembly()
    assembly.notice.write_text("all rights reserved\n")
    changed = assembly()
    assert files(changed)["share/NOTICE"] == (0o644, b"all rights reserved\n")
    assembly.notice.write_text("free to use\n")
    assert assembly() == before
    assert assembly.checks == 3


def test_a_changed_mode_is_in_the_next_image(assembly: Assembly) -> None:
    before = assembly()
    assembly.notice.chmod(0o755)
    assert files(assembly())["share/NOTICE"] == (0o755, b"free to use\n")
    assembly.notice.chmod(0o644)
    assert assembly() == before


def test_permissions_that_no_image_has_change_nothing(assembly: Assembly) -> None:
    before = assembly()
    assembly.notice.chmod(0o664)
    assert assembly() == before
    assert assembly.checks == 1


def test_a_file_that_is_gone_is_an_error_that_names_it(assembly: Assembly) -> None:
    assembly()
    assembly.notice.unlink()
    with pytest.raises(ImageError, match=r"^Dockerfile\.j2:3 \(amd64\): COPY NOTICE: no such file"):
        assembly()


def test_a_template_that_is_not_utf_8_is_an_error(assembly: Assembly) -> None:
    (assembly.spec.root / "Dockerfile.j2").write_bytes(b"FROM scratch\n\xff")
    with pytest.raises(ImageError, match=r"Dockerfile\.j2: byte 13 is not UTF-8"):
        assembly()


def test_a_base_that_only_rendering_shows_is_refused(assembly: Assembly) -> None:
    text = "{% if 0 %}\nFROM scratch\n{% endif %}\n{{ 'FRO' ~ 'M' }} debian\nCOPY {{ binary }} /pause\n"
    (assembly.spec.root / "Dockerfile.j2").write_text(text)
    with pytest.raises(ImageError, match="FROM debian: expected FROM as plain text"):
        assembly()


def test_a_damaged_entry_is_assembled_again(assembly: Assembly) -> None:
    before = assembly()
    entries = [path for path in assembly.cache.folder.glob("??/*") if path.is_file()]
    assert entries
    for path in entries:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert assembly() == before
    assert assembly.checks == 2


def with_arch(change: Callable[[Arch], Arch]) -> Callable[[Spec], Spec]:
    return lambda spec: replace(spec, arch=change(spec.arch))


def with_settings(change: Callable[[ImageSettings], ImageSettings]) -> Callable[[Spec], Spec]:
    return lambda spec: replace(spec, settings=change(spec.settings))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda spec: replace(spec, tag="3.2"), id="tag"),
        pytest.param(lambda spec: replace(spec, revision=Revision("v3.2", 0)), id="revision"),
        pytest.param(lambda spec: replace(spec, revision=Revision("v3.1", 1)), id="time"),
        pytest.param(lambda spec: replace(spec, form=DOCKER), id="format"),
        pytest.param(with_arch(lambda arch: replace(arch, platform=Platform("linux", "arm", "v7"))), id="platform"),
        pytest.param(with_arch(lambda arch: replace(arch, header=SETTINGS.arches["s390x"].header)), id="ELF header"),
        pytest.param(with_settings(lambda image: replace(image, user="1:1")), id="user"),
        pytest.param(with_settings(lambda image: replace(image, labels=MappingProxyType({"a": "b"}))), id="labels"),
    ],
)
def test_a_changed_setting_is_assembled_anew(assembly: Assembly, change: Callable[[Spec], Spec]) -> None:
    assembly()
    assembly.spec = change(assembly.spec)
    image = assembly()
    assert assembly.checks == 2
    assert image.platform == assembly.spec.arch.platform


def test_another_binary_and_another_template_are_assembled_anew(assembly: Assembly) -> None:
    assembly()
    assembly.binary = b"another"
    assert files(assembly())["pause"] == (0o755, b"another")
    (assembly.spec.root / "Dockerfile.j2").write_text(DOCKERFILE.replace("/pause", "/init"))
    assert files(assembly())["init"] == (0o755, b"another")
    assert assembly.checks == 3


def test_the_inputs_of_an_image_are_all_its_files(assembly: Assembly) -> None:
    """Which other files it has is known once it is assembled; until then, from the run before."""
    always = {"Dockerfile.j2", "bin/pause-amd64"}
    assert set(assembly.inputs()) == always
    assert set(assembly.inputs("NOTICE", "gone")) == {*always, "NOTICE"}
    assembly()
    inputs = assembly.inputs()
    assert set(inputs) == {*always, "NOTICE"}
    assert inputs["bin/pause-amd64"] == digest_of(BINARY)
    assert assembly.inputs("gone") == inputs


def test_the_inputs_change_with_content_and_mode_of_a_file(assembly: Assembly) -> None:
    assembly()
    before = assembly.inputs()
    assembly.notice.chmod(0o755)
    executable = assembly.inputs()
    assembly.notice.write_text("all rights reserved\n")
    assert len({before["NOTICE"], executable["NOTICE"], assembly.inputs()["NOTICE"]}) == 3
