"""What a tool has published: are the platforms right, is it proved, is it the same each time?"""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.registry import empty_registry
from bench.running import Checkout, FailedError
from bench.tools import TAG, Job, Tool
from build.oci.media_types import INDEXES, MANIFESTS
from build.oci.platform import Platform


@dataclass(frozen=True)
class Verdict:
    """How many platforms are right in the manifest list and in the configs, what `invoke check` says, and whether two
    runs, each from nothing, came to one digest."""

    in_list: int
    in_configs: int
    check: str
    same_twice: bool

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def judge(tool: Tool, platforms: Sequence[Platform], checkout: Checkout) -> Verdict:
    """Publish twice from nothing, and read what is there. Raises FailedError if the tool fails."""
    digests = []
    for _ in range(2):
        with empty_registry() as host:
            tool.forget()
            tool.edit(False)
            tool.publish(Job(host))
            listed = _get(host, f"pause/manifests/{TAG}")
            digests.append(hashlib.sha256(listed).hexdigest())
            entries = json.loads(listed)["manifests"]
            configs = [_config(host, entry["digest"]) for entry in entries]
            checked = _checked(host, checkout)
    named = {str(Platform.of(entry["platform"])) for entry in entries}
    configured = {str(Platform.of(config)) for config in configs}
    right = {str(each) for each in platforms}
    return Verdict(len(right & named), len(right & configured), checked, len(set(digests)) == 1)


def _checked(host: str, checkout: Checkout) -> str:
    try:
        checkout.invoke("check", f"{host}/pause:{TAG}")
    except FailedError as error:
        said = str(error).replace(f"{host}/", "").splitlines()
        return " ".join(line.strip() for line in said[1:3])
    return "passes"


def _config(host: str, digest: str) -> dict[str, Any]:
    manifest = json.loads(_get(host, f"pause/manifests/{digest}"))
    config: dict[str, Any] = json.loads(_get(host, f"pause/blobs/{manifest['config']['digest']}"))
    return config


def _get(host: str, path: str) -> bytes:
    accept = ", ".join(sorted(INDEXES | MANIFESTS))
    wanted = urllib.request.Request(f"http://{host}/v2/{path}", headers={"Accept": accept})
    with urllib.request.urlopen(wanted) as answer:
        data: bytes = answer.read()
    return data
