"""The docker engine: images are built, tagged and pushed by the daemon, through docker-py's classic builder.

What the daemon says of its work is not believed: the image is inspected, and the registry is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.daemon.client import explained, followed, inspected
from build.errors import ImageError, PublishError
from build.image.layer import File, tar
from build.oci.platform import Platform
from build.stores.registry.auth import Credentials
from build.stores.store import Tag

if TYPE_CHECKING:
    from docker import APIClient


@dataclass(frozen=True)
class Context:
    """What a build is made from: the rendered Dockerfile, and files by their path."""

    dockerfile: str
    files: Mapping[str, bytes]
    time: int

    def packed(self) -> bytes:
        """The archive that the daemon takes. Every file can be run, as the builder copies modes with it."""
        contents = {**self.files, "Dockerfile": self.dockerfile.encode()}
        return tar([File(f"/{path}", 0o755, data) for path, data in contents.items()], self.time)


def build_image(client: APIClient, context: Context, name: str, platform: Platform) -> str:
    """Build the image `name` (NAME:TAG) and return its id; raise ImageError if it is not for `platform`."""
    import io

    doing = f"{name}: docker build"
    with explained(doing):
        # nocache: Engine 20.10 takes a cached layer's platform for the image's, whatever `platform` says.
        lines = client.build(
            fileobj=io.BytesIO(context.packed()),
            custom_context=True,
            tag=name,
            platform=str(platform),
            nocache=True,
            rm=True,
            forcerm=True,
            decode=True,
        )
    built = [line["aux"]["ID"] for line in followed(lines, doing) if "ID" in (line.get("aux") or {})]
    return checked_image(client, name, platform, built[-1] if built else None)


def checked_image(client: APIClient, name: str, platform: Platform, built: str | None) -> str:
    """The id of the image `name`; ImageError if it is not for `platform`, or is another than the one `built`."""
    found = inspected(client, name)
    if found is None:
        raise ImageError(f"{name}: the daemon has no such image")
    claimed = Platform(found["Os"], found["Architecture"], found.get("Variant", ""))
    if claimed != platform:
        raise ImageError(f"{name}: the daemon made an image for {claimed}, expected {platform}\n  it is not published")
    if built is not None and found["Id"] != built:
        raise ImageError(f"{name}: found image {found['Id']}, expected {built}: another build took the name")
    return str(found["Id"])


def name_image(client: APIClient, image_id: str, tag: Tag) -> None:
    """Let `tag` be a name of the image in the daemon."""
    with explained(f"{tag}: docker tag"):
        client.tag(image_id, str(tag.repository), tag.name)


def pushed_before(client: APIClient, tag: Tag, digest: str | None) -> bool:
    """Whether `digest`, which the registry has under `tag`, is that of the image which the daemon has under it."""
    found = inspected(client, str(tag)) or {}
    return f"{tag.repository}@{digest}" in (found.get("RepoDigests") or ())


def push_image(client: APIClient, tag: Tag, known: Credentials | None, report: Callable[[str], None]) -> str:
    """Push the image `tag`, and return the digest that the daemon says the registry has for it now."""
    doing = f"{tag}: docker push"
    with explained(doing):
        # Given even when empty: else a credential helper would have the word (docker-py#3281).
        lines = client.push(
            str(tag.repository), tag=tag.name, stream=True, decode=True, auth_config=_auth_config(known)
        )
    digests = []
    for line in followed(lines, doing):
        aux: Mapping[str, Any] = line.get("aux") or {}
        digests += [aux["Digest"]] if "Digest" in aux else []
        if line.get("id") and not line.get("progressDetail"):
            report(f"{tag}: {line['id']} {line.get('status')}")
    if not digests:
        raise PublishError(f"{doing}: the daemon ended without a digest\n  see its log, and run this again")
    return str(digests[-1])


def _auth_config(known: Credentials | None) -> dict[str, str]:
    if known is None:
        return {}
    if known.identity_token:
        return {"identitytoken": known.identity_token}
    return {"username": known.username, "password": known.password}
