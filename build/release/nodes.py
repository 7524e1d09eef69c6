"""How a node is told to use the published image: a setting for each program that starts pods, or keeps their images.

The image is named by its digest alone: a tag could move under a node, and not all of them take a tag and a digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from build.errors import ImageError, PublishError, UsageError
from build.oci.media_types import INDEXES
from build.release.release import Release
from build.release.senders import at_work


@dataclass(frozen=True)
class Setting:
    """What makes `program` use the image `reference`.

    `text` goes into `file`, a path on the node. `apply` is the shell command after which it holds.
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


def settings(release: Release) -> list[Setting]:
    """The settings for the manifest list that is published now.

    Raises UsageError if nobody could pull it, PublishError if it is not there, ImageError if it is no manifest list.
    """
    tag = release.list_tag()
    if tag.repository.on_disk:
        raise UsageError(
            f"{release.registry!r} is a folder: kubelet, containerd, CRI-O and podman pull from registries alone"
            f"\n  publish it to one: invoke copy {release.registry} REGISTRY"
            "\n  and ask for that: invoke use --registry REGISTRY"
        )
    with at_work() as senders:
        manifest = senders.run(release.sink().manifest(tag.repository, tag.name))
    if manifest is None:
        raise PublishError(f"{tag}: not published\n  publish it first: invoke all-push, with the same registry and tag")
    if manifest.media_type not in INDEXES:
        raise ImageError(f"{tag}: found {manifest.media_type or 'no media type'}, expected a manifest list's")
    return _settings(f"{tag.repository}@{manifest.digest}", release.image.entrypoint)


def _settings(reference: str, entrypoint: tuple[str, ...]) -> list[Setting]:
    image, command = json.dumps(reference), json.dumps(" ".join(entrypoint))  # of these, a TOML string is JSON's
    return [
        Setting(
            "containerd 2",
            reference,
            "/etc/containerd/config.toml",
            f"version = 3\n\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = {image}",
            "systemctl restart containerd",
            "merge it into a file that is there; if that begins with version = 2, take the setting of containerd 1",
        ),
        Setting(
            "containerd 1",
            reference,
            "/etc/containerd/config.toml",
            f'version = 2\n\n[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = {image}',
            "systemctl restart containerd",
            "merge it into a file that is there",
        ),
        Setting(
            "CRI-O",
            reference,
            "/etc/crio/crio.conf.d/50-pause.conf",
            f"[crio.image]\npause_image = {image}\npause_command = {command}",
            "systemctl restart crio",
            "of the files in this folder, later names win",
        ),
        Setting(
            "podman",
            reference,
            "/etc/containers/containers.conf.d/50-pause.conf",
            f"[engine]\ninfra_image = {image}\ninfra_command = {command}",
            f"podman pull {reference}",
            "without root: ~/.config/containers/containers.conf.d/50-pause.conf; pods made from then on use it",
        ),
        Setting(
            "kubelet",
            reference,
            "/etc/default/kubelet",
            f"KUBELET_EXTRA_ARGS=--pod-infra-container-image={reference}",
            "systemctl restart kubelet",
            "for 1.34 and older alone: 1.35 does not know the flag, and does not start with it\n"
            "it chooses no image (but with dockershim, until 1.23): it keeps this one from being collected as garbage\n"
            "add it to arguments that are there; with rpm packages the file is /etc/sysconfig/kubelet",
        ),
    ]
