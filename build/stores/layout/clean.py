"""Removes what `put_tag` made from a layout, and nothing that somebody else's tag needs."""

from __future__ import annotations

import re
from pathlib import Path

from build.oci.descriptor import DIGEST
from build.oci.image import dump
from build.stores.layout.index import LOCK, read_index
from build.stores.layout.tag import OURS, reachable
from build.system import leftovers, write_whole


def clean_layout(folder: Path, dry: bool) -> list[Path]:
    """Remove our tags, and the blobs that no other tag needs; return the folder if anything is removed."""
    index = read_index(folder)
    others = [entry for entry in index["manifests"] if not OURS.items() <= entry.get("annotations", {}).items()]
    # Without an index, a run was killed before its first tag, and nothing needs the blobs that it left.
    if len(others) == len(index["manifests"]) and (folder / "index.json").exists():
        return []
    needed = {digest for entry in others for digest in reachable(folder, entry["digest"])}
    blobs = folder / "blobs" / "sha256"
    stored = [path for path in blobs.glob("*") if DIGEST.fullmatch(f"sha256:{path.name}")]
    frame = [folder / "index.json", folder / "oci-layout"]
    gone = [path for path in stored if f"sha256:{path.name}" not in needed]
    gone += [path for path in blobs.glob(".*.tmp") if re.fullmatch(r"\.[0-9a-f]{64}\.[0-9a-f]+\.tmp", path.name)]
    gone += [left for path in frame for left in leftovers(path)]
    if not others:
        gone += [path for path in (*frame, folder / LOCK) if path.exists()]
    if not dry:
        if others:
            write_whole(folder / "index.json", dump(index | {"manifests": others}))
        for path in gone:
            path.unlink()
        for emptied in (blobs, blobs.parent, folder, folder.parent):
            if emptied.is_dir() and not any(emptied.iterdir()):
                emptied.rmdir()
    return [folder] if gone else []
