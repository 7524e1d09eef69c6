"""Images are fetched from stores of others, whatever their manifests claim."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from build.errors import ImageError
from build.oci.descriptor import Blob
from build.oci.image import dump
from build.oci.media_types import LARGEST_MANIFEST, OCI
from build.oci.reference import Repository
from build.stores.layout.layout import Layout
from build.stores.transfer import fetch


@dataclass(frozen=True)
class _Asked(Layout):
    """A layout that fails the test if a blob is asked for."""

    async def blob(self, *_: object) -> Blob:
        pytest.fail("a blob was fetched")


def test_a_config_is_at_most_as_large_as_a_manifest(tmp_path: Path) -> None:
    here = Repository("", "pause")
    config = {"mediaType": OCI.config, "digest": "sha256:" + "0" * 64, "size": LARGEST_MANIFEST + 1}
    manifest = Blob.of(
        OCI.manifest, dump({"schemaVersion": 2, "mediaType": OCI.manifest, "config": config, "layers": []})
    )
    layout = _Asked(tmp_path)
    asyncio.run(layout.put_manifest(here, manifest))
    with pytest.raises(ImageError, match=f"config: found {LARGEST_MANIFEST + 1} bytes"):
        asyncio.run(fetch(layout, here, manifest.digest, tmp_path))
