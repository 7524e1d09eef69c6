"""The embedded engine and `docker build` make the same of a Dockerfile: config and every file."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from build.image.base import Base
from build.image.dockerfile.context import Context
from build.image.dockerfile.settings import inherited
from build.image.dockerfile.stage import carry_out
from build.image.dockerfile.syntax import Location, parse
from build.image.program import DEFAULT_PATH
from build.oci.descriptor import Blob
from build.oci.image import Image
from build.oci.platform import Platform
from tests.support.daemons import Docker
from tests.support.strangers import PLAIN

pytestmark = pytest.mark.xdist_group("docker")

AMD64 = Platform("linux", "amd64")
NAME, BASE = "pause-tests/agrees", "pause-tests/agrees-base"
# Path: kind, permission bits, owner, and content or target.
Tree = dict[str, tuple[bytes, int, int, int, bytes | str]]


@dataclass(frozen=True)
class Saved:
    """An image as `docker save` writes it."""

    config: dict[str, Any]
    layers: list[bytes]

    def settings(self, on_scratch: bool) -> dict[str, Any]:
        """The members of its config; Docker gives an image on scratch the PATH that runtimes have anyway."""
        members = dict(self.config["config"])
        if on_scratch:
            members["Env"] = [each for each in members["Env"] if each != f"PATH={DEFAULT_PATH}"]
        return inherited(members)


def saved(docker: Docker, name: str) -> Saved:
    run = docker.run("save", name)
    assert run.returncode == 0, run.stderr
    with tarfile.open(fileobj=io.BytesIO(run.stdout)) as archive:

        def content(path: str) -> bytes:
            file = archive.extractfile(path)
            assert file
            return file.read()

        [listing] = json.loads(content("manifest.json"))
        return Saved(json.loads(content(listing["Config"])), [content(each) for each in listing["Layers"]])


def tree(layers: Iterable[bytes]) -> Tree:
    found: Tree = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            for each in archive:
                file = archive.extractfile(each) if each.isfile() else None
                content = file.read() if file else each.linkname
                mode = 0 if each.issym() else each.mode & 0o7777
                found["/" + each.name.strip("/")] = (each.type, mode, each.uid, each.gid, content)
    found.pop("/", None)
    return found


@pytest.fixture(scope="module")
def base(docker: Docker) -> Base:
    """An image with a merged /usr, a home of another owner, and a config."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, mode, owner in (("usr", 0o755, 0), ("usr/bin", 0o755, 0), ("home", 0o755, 0), ("home/app", 0o700, 7)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, mode, owner, owner
            archive.addfile(folder)
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        archive.addfile(link)
        tool = tarfile.TarInfo("usr/bin/tool")
        tool.size, tool.mode = 4, 0o755
        archive.addfile(tool, io.BytesIO(b"tool"))
    set_by = ("ENV PATH=/usr/bin LANG=C", "USER 7", "WORKDIR /home", 'ENTRYPOINT ["/usr/bin/tool"]', 'CMD ["-x"]',
              "LABEL a=1 b=1", "EXPOSE 80", "VOLUME /data")  # fmt: skip
    changes = [f"--change={each}" for each in set_by]
    docker("import", *changes, "-", BASE, data=packed.getvalue())
    image = saved(docker, BASE)
    layers = tuple(Blob.of(PLAIN, each) for each in image.layers)
    blank = Blob.of("", b"")
    return Base(BASE, blank.digest, Image(AMD64, blank, Blob.of("", json.dumps(image.config).encode()), layers))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "folder/inner").mkdir(parents=True)
    (root / "folder/empty").mkdir()
    for path, mode in (
        ("app", 0o755), ("b.txt", 0o644), ("c.txt", 0o644), ("folder/d", 0o644), ("folder/inner/e", 0o755),
        ("folder/left.out", 0o644), ("secret", 0o644),
    ):  # fmt: skip
        (root / path).write_text(path)
        (root / path).chmod(mode)
    (root / "folder/link").symlink_to("inner/e")
    (root / ".dockerignore").write_text("Dockerfile\nsecret\n**/*.out\n")
    for each in (root, *root.rglob("*")):
        if each.is_dir():
            each.chmod(0o755)
    return root


SCRATCH = "FROM scratch\n"
ON_BASE = f"FROM {BASE}\n"
DOCKERFILES = {
    "files": SCRATCH + "COPY app /app\nCOPY b.txt c.txt /texts/\nCOPY app /deep/er/app\nADD app /app\n",
    "folders": SCRATCH + "COPY folder /folder\nCOPY folder/ /other/\nCOPY folder/inner /folder\n",
    "everything": SCRATCH + "COPY . /all/\n",
    "patterns": SCRATCH + "COPY *.txt /texts/\nCOPY [ab]*p /x\nCOPY fold?r/inn* /inner/\n",
    "a link as a source": SCRATCH + "COPY folder/link /e\n",
    "WORKDIR": SCRATCH + "WORKDIR /w\nWORKDIR x/../y\nCOPY app .\nCOPY app here/\nCOPY folder there\n",
    "settings": SCRATCH + "COPY app /\nENV A=1 B='2 3'\nENV C=\"4 $A\" A=5 D=$A\nENV E ${B} 6\nUSER 1:2\n"
    "EXPOSE 1 2/udp 3-4\n"
    'LABEL x="y z" w=$A\nLABEL x=q\nVOLUME /v /w\nVOLUME ["/u u"]\nSTOPSIGNAL 9\nENTRYPOINT ["/app", "$A"]\nCMD ["c"]\n'
    "HEALTHCHECK --interval=90s --timeout=2m --start-period=1h1s --retries=4 CMD [\"/app\", \"x\"]\n",
    "arguments": "ARG folder=folder\nFROM scratch\nARG folder\nARG x=1 \nARG y=${x}2\nCOPY $folder/d /d\n"
    "ENV Z=${y:-3}${no:-4}\n"
    "LABEL l=${y:+five} m=\\$x n='$x'\n",
    "no health": SCRATCH + "COPY app /\nHEALTHCHECK NONE\n",
    "nothing but a base": ON_BASE + "LABEL a=2 c=3\n",
    "config of a base": ON_BASE + "ENV LANG=de X=$PATH:/x\nUSER me\nEXPOSE 81\nVOLUME /more\nWORKDIR app\nCMD echo $X\n"
    'SHELL ["/usr/bin/tool", "-c"]\nHEALTHCHECK CMD test x\n',
    "another entrypoint": ON_BASE + 'ENTRYPOINT ["/new"]\n',
    "entrypoint and command": ON_BASE + 'CMD ["-y"]\nENTRYPOINT exec tool\n',
    "through links": ON_BASE + "COPY app /bin/app\nCOPY b.txt /bin\nCOPY folder /bin/\n",
    "into folders of others": ON_BASE + "COPY app app\nCOPY folder /home/app\nCOPY c.txt /home/app/new/c\n",
    "onto a file": ON_BASE + "COPY app /usr/bin/tool\n",
    "owners": ON_BASE + "COPY --chown=7:8 app /a/b/app\nCOPY --chown=9 folder /f\n",
}  # fmt: skip


@pytest.mark.parametrize("name", DOCKERFILES)
def test_docker_build_agrees(docker: Docker, base: Base, context: Path, name: str) -> None:
    text = DOCKERFILES[name]
    (context / "Dockerfile").write_text(text)
    docker("build", "--quiet", "--force-rm", f"--tag={NAME}", str(context))
    theirs = saved(docker, NAME)
    below = base if text.startswith("FROM pause") else None
    dockerfile = parse(text, Location("Dockerfile"), {})
    ours = carry_out(dockerfile, below, Context(context, "", b""), AMD64, "2020-01-01T00:00:00Z", 0)
    assert ours.config["config"] == theirs.settings(on_scratch=below is None)
    under = [each.data for each in below.image.layers] if below else []
    assert tree([*under, *(each.data for each in ours.layers)]) == tree(theirs.layers)
