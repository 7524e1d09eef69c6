"""The settings that make nodes use the published image: one for each program that starts pods, or keeps their images.

The image is named by digest only: a tag could move under a node, and not every program takes a tag and a digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.errors import ImageError, PublishError, UsageError
from build.oci.media_types import INDEXES
from build.oci.parse import Manifest, parse_config, parse_manifest
from build.oci.reference import Reference
from build.stores.store import SMALL

if TYPE_CHECKING:
    from build.config.release import Release
    from build.stores.store import Store


@dataclass(frozen=True)
class Setting:
    """What makes `program` use the image `reference`.

    `text` goes into `file`, a path on the node. The shell command `apply` makes it take effect.
    """

    program: str
    reference: str
    file: str
    text: str
    apply: str
    note: str

    def __str__(self) -> str:
        notes = "".join(f"# {line}\n" for line in self.note.splitlines())
        return f"# {self.program}: {self.file}\n{notes}# then: {self.apply}\n{self.text}\n"

    def fields(self) -> Mapping[str, object]:
        """The result in the document of --json."""
        reference = Reference.parse(self.reference)
        return {
            "kind": "setting",
            "reference": self.reference,
            **reference.place.fields(),
            "digest": reference.digest,
            "program": self.program,
            "path": self.file,
            "text": self.text,
            "apply": self.apply,
            "note": self.note,
        }


async def settings(release: Release, store: Store) -> list[Setting]:
    """The settings for the manifest list that is published now.

    Raises UsageError if nodes can't pull from the store, PublishError if the tag does not exist, and ImageError if it
    refers to something other than a manifest list.
    """
    tag = release.list_tag()
    if tag.repository.on_disk:
        raise _folder(
            release.registry,
            f"the release to a registry: invoke copy {release.registry} REGISTRY",
            "--registry REGISTRY",
        )
    manifest = await store.manifest(tag.repository, tag.name)
    if manifest is None:
        raise PublishError(f"{tag}: not published\n  publish it first: invoke all-push, with the same registry and tag")
    if manifest.media_type not in INDEXES:
        raise ImageError(f"{tag}: found {manifest.media_type or 'no media type'}, expected a manifest list")
    return settings_for(f"{tag.repository}@{manifest.digest}", release.image.entrypoint)


async def settings_of(reference: Reference, store: Store) -> list[Setting]:
    """The settings for any image or list, as it is now; its config says what containers run.

    Raises UsageError if nodes can't pull it, PublishError if it does not exist, and ImageError if it is not an image.
    """
    if reference.repository.on_disk:
        raise _folder(str(reference), "it to a registry, for example with skopeo", "REFERENCE")
    wanted, digest = reference.wanted, ""
    try:
        for _ in range(2):
            manifest = await store.manifest(reference.repository, wanted)
            if manifest is None:
                raise PublishError("not found")
            digest = digest or manifest.digest
            parsed = parse_manifest(manifest.data, manifest.media_type)
            if isinstance(parsed, Manifest):
                return settings_for(f"{reference.repository}@{digest}", await _command(reference, parsed, store))
            platforms = [each for each in parsed if each.platform and each.platform.os == "linux"]
            if not platforms:
                raise ImageError("found a list without an image for linux, expected one")
            wanted = platforms[0].digest
        raise ImageError("found a list in a list, expected images")
    except (ImageError, PublishError) as error:
        raise type(error)(f"{reference}: {error}") from None


async def _command(reference: Reference, manifest: Manifest, store: Store) -> tuple[str, ...]:
    """What containers of an image run."""
    if manifest.artifact:
        raise ImageError(f"found {manifest.artifact}, expected an image")
    if manifest.config.size > SMALL:
        raise ImageError(f"config: found {manifest.config.size} bytes, expected at most {SMALL}")
    config = await store.blob(reference.repository, manifest.config, Path(os.devnull))  # a small one needs no folder
    return parse_config(config.data).command


def _folder(name: str, remedy: str, words: str) -> UsageError:
    return UsageError(
        f"{name!r} is a folder: kubelet, containerd, CRI-O and podman only pull from registries"
        f"\n  copy {remedy}\n  and retry: invoke use {words}"
    )


def settings_for(reference: str, entrypoint: tuple[str, ...]) -> list[Setting]:
    """The settings for an image's reference by digest, whose containers run `entrypoint`."""
    image, command = json.dumps(reference), json.dumps(" ".join(entrypoint))  # valid TOML strings, too
    return [
        Setting(
            "containerd 2",
            reference,
            "/etc/containerd/config.toml",
            f"version = 3\n\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = {image}",
            "systemctl restart containerd",
            "merge this into an existing file; if that begins with version = 2, use the setting for containerd 1",
        ),
        Setting(
            "containerd 1",
            reference,
            "/etc/containerd/config.toml",
            f'version = 2\n\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = {image}',
            "systemctl restart containerd",
            "merge this into an existing file",
        ),
        Setting(
            "CRI-O",
            reference,
            "/etc/crio/crio.conf.d/50-pause.conf",
            f"[crio.image]\npause_image = {image}\npause_command = {command}",
            "systemctl restart crio",
            "files in this folder with later names take precedence",
        ),
        Setting(
            "podman",
            reference,
            "/etc/containers/containers.conf.d/50-pause.conf",
            f"[engine]\ninfra_image = {image}\ninfra_command = {command}",
            f"podman pull {reference}",
            "rootless: ~/.config/containers/containers.conf.d/50-pause.conf; only pods created afterwards use it",
        ),
        Setting(
            "kubelet",
            reference,
            "/etc/default/kubelet",
            f"KUBELET_EXTRA_ARGS=--pod-infra-container-image={reference}",
            "systemctl restart kubelet",
            "only for 1.34 and older: 1.35 no longer has the flag, and does not start with it\n"
            "the flag does not choose the image (except with dockershim, until 1.23): it protects it from image garbage"
            " collection\n"
            "add it to the existing arguments; with rpm packages, the file is /etc/sysconfig/kubelet",
        ),
    ]
