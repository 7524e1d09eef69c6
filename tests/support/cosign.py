"""cosign, oras and a newer skopeo, from a Debian of the tests' own: the machine's release may have none of them.

They run on this machine, so that its files and its loopback interface are theirs. No command asks the network, beside a
registry, if these are among its words:

- `cosign sign --tlog-upload=false`, and `attest` and `sign-blob` alike
- `cosign verify --insecure-ignore-tlog=true`, and `verify-attestation` and `verify-blob` alike; with
  `--new-bundle-format`, `--trusted-root` too, for which `trusted_root` makes a file
- `oras --plain-http`, where a registry has no TLS; cosign needs no such word for localhost
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.daemons import debian

PACKAGES = ("cosign", "oras", "skopeo")


def tools_root() -> Path:
    """The folder of the Debian with these tools, built once per machine."""
    return debian("signing", "trixie", PACKAGES, ("share/doc/*", "share/locale/*", "share/man/*"))


def cosign(
    *words: str, env: Mapping[str, str] | None = None, folder: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """How `cosign WORDS` ends, in `folder`; if `check` is on, it must succeed.

    Its environment is `env` alone, with an empty COSIGN_PASSWORD unless there is one: cosign never asks.
    """
    return _run("cosign", words, {"COSIGN_PASSWORD": "", **(env or {})}, folder, check)


def oras(
    *words: str, env: Mapping[str, str] | None = None, folder: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """How `oras WORDS` ends; see `cosign`."""
    return _run("oras", words, env or {}, folder, check)


def skopeo(
    *words: str, env: Mapping[str, str] | None = None, folder: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """How `skopeo WORDS` ends; see `cosign`."""
    return _run("skopeo", words, env or {}, folder, check)


def trusted_root(folder: Path) -> Path:
    """A file for `--trusted-root` that trusts nobody: what is left is the key. Without it, cosign asks sigstore.dev."""
    file = folder / "trusted-root.json"
    file.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}))
    return file


def _run(
    program: str, words: tuple[str, ...], env: Mapping[str, str], folder: Path | None, check: bool
) -> subprocess.CompletedProcess[str]:
    root = tools_root()
    # By the root's own loader and libraries: this machine's may be older than the program.
    loader = next(root.glob("usr/lib/*/ld-linux*.so.*"))
    command = [str(loader), "--library-path", str(loader.parent), str(root / "usr/bin" / program), *words]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **env}
    run = subprocess.run(
        command,
        check=False,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not check or run.returncode == 0, f"{program} {' '.join(words)}: {run.stderr}"
    return run
