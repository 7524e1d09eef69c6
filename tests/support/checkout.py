"""The program as a user runs it: in a fresh clone, from a command line, in an environment that we know."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from build.config.parse import read_settings

SOURCE = Path(__file__).parent.parent.parent
SETTINGS = read_settings(SOURCE / "arches.yaml")
RELEASE = SETTINGS.defaults.release
REPOSITORIES = ("pause", *(f"pause-{arch}" for arch in RELEASE))
TIMEOUT = 120

Snapshot = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Run:
    """How a command ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def digests(self) -> dict[str, str]:
        """What stdout says of tags: digests by name, in its order."""
        tags = [line for line in self.stdout.splitlines() if "  key " not in line]  # such a line tells of signatures
        lines = [(line.split(maxsplit=2) * 2)[1] for line in tags]  # a dry run says first what it does
        return {name: digest for name, _, digest in (line.partition("@") for line in lines)}


@dataclass(frozen=True)
class Checkout:
    """A clone, and a home and a folder for temporary files beside it."""

    root: Path
    side: Path
    umask: int = -1

    @classmethod
    def clone(cls, origin: Path | str, root: Path, *options: str) -> Checkout:
        """A clone of `origin`, as `git clone` makes it."""
        side = root.with_name(f"{root.name}-side")
        (side / "tmp").mkdir(parents=True)
        checkout = cls(root, side)
        command = ["git", "clone", "--quiet", *options, str(origin), str(root)]
        subprocess.run(command, check=True, env=checkout.environment())
        return checkout

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of whoever runs the tests but PATH."""
        ours = {"HOME": str(self.side), "TMPDIR": str(self.side / "tmp"), "GIT_CONFIG_NOSYSTEM": "1"}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **ours, **more}

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """`invoke WORDS` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.root,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=self.umask,
            start_new_session=True,
        )

    def ends(self, *words: str, **environment: str) -> Run:
        """`invoke WORDS`, however it ends."""
        return ended(self.start(*words, **environment))

    def __call__(self, *words: str, **environment: str) -> Run:
        """`invoke WORDS`, which must succeed."""
        run = self.ends(*words, **environment)
        assert run.code == 0, run.stderr
        return run

    def refuses(self, code: int, *words: str, **environment: str) -> str:
        """The one message that `invoke WORDS` ends with, with nothing on stdout and no traceback."""
        run = self.ends(*words, **environment)
        assert (run.code, run.stdout) == (code, ""), run.stderr
        assert "Traceback" not in run.stderr, run.stderr
        task = next(word for word in words if not word.startswith("-"))
        progress, found, message = f"\n{run.stderr}".partition(f"\n{task}: ")
        assert found, run.stderr
        assert code != 2 or not progress, f"something ran before the refusal: {progress}"
        assert f"\n{task}: " not in message
        return message

    def git(self, *words: str) -> str:
        """The stdout of a git command; commits have one author and one date."""
        someone = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in {"NAME": "A", "EMAIL": "a@b.c", "DATE": "2001-02-03T04:05:06+0700"}.items()
        }
        command = ["git", "-C", str(self.root), *words]
        git = subprocess.run(command, check=True, env=self.environment(**someone), stdout=subprocess.PIPE, text=True)
        return git.stdout.strip()

    def commit(self, words: str) -> None:
        """Commit everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", words)

    @property
    def revision(self) -> str:
        """What REV is in a clone without tags."""
        return self.git("rev-parse", "HEAD")[:12]

    @property
    def version(self) -> str:
        """What `pause -v` says after its name."""
        return f"v3.1-{self.revision}"

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that is in the file exactly once."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1
        (self.root / path).write_text(text.replace(old, new))

    def snapshot(self) -> Snapshot:
        """All files and folders with type, permissions, content and time; but what Python itself keeps of its modules.

        A folder's time is left out: it tells of files that came and went, and these tests look for such by name.
        """
        return {str(path.relative_to(self.root)): _look(path) for path in _walk(self.root)}

    def forget(self) -> None:
        """Have nothing made, as in a new clone."""
        for folder in ("bin", "dist", ".cache"):
            shutil.rmtree(self.root / folder, ignore_errors=True)


def ended(process: subprocess.Popen[str], timeout: float = TIMEOUT) -> Run:
    """How `process` ends."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Run(process.returncode, stdout, stderr)


def origin(folder: Path) -> Checkout:
    """A repository with one commit: the files of the working tree that these tests are in, new ones too."""
    checkout = Checkout(folder, folder.with_name(f"{folder.name}-side"))
    (checkout.side / "tmp").mkdir(parents=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=SOURCE, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in names.rstrip("\0").split("\0"):
        if (SOURCE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, folder / name)
    checkout.git("init", "--quiet")
    checkout.commit("everything")
    return checkout


def _walk(folder: Path) -> list[Path]:
    inside = [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"]
    deeper = [each for path in inside if path.is_dir() and not path.is_symlink() for each in _walk(path)]
    return [*inside, *deeper]


def _look(path: Path) -> tuple[Any, ...]:
    stat = path.lstat()
    if not path.is_file():
        return (stat.st_mode,)
    return (stat.st_mode, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())


def document(run: Run) -> dict[str, Any]:
    """The one document that --json prints, which must be as its schema says, and agree with how the run ended."""
    found: dict[str, Any] = json.loads(run.stdout)
    SCHEMA.validate(found)
    assert found["ok"] == (run.code == 0)
    if found["error"]:
        assert found["error"]["exit_status"] == run.code
        assert f"{found['task']}: {found['error']['message']}\n" in run.stderr
    return found


def results(run: Run) -> list[dict[str, Any]]:
    """The results in the document that --json prints."""
    found: list[dict[str, Any]] = document(run)["results"]
    return found


def _strict(schema: Any) -> Any:
    """The schema, with no members but those that it describes."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "required" in schema else {}
    return {name: _strict(each) for name, each in schema.items()} | closed


SCHEMA = Draft202012Validator(_strict(json.loads((SOURCE / "docs/output.schema.json").read_text())))
