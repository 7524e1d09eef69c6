"""Images in the daemon: built by docker-py's classic builder or loaded, checked, tagged and pushed.

The daemon's own reports are verified: the image is inspected, and the registry is asked.
"""

from __future__ import annotations

import io
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from build.daemon.client import Daemon, Line
from build.errors import ImageError, PublishError
from build.oci.platform import Platform
from build.oci.reference import Repository, Tag
from build.report import Report
from build.stores.registry.credentials import Credentials

# The last line of a push. Docker's containerd store does not also send it as `aux`.
_PUSHED = re.compile(r": digest: (sha256:[0-9a-f]{64}) size: ")


async def has_containerd_store(daemon: Daemon) -> bool:
    """Whether the daemon keeps images in containerd's store, the default of new installations since Engine 29."""
    information = await daemon.call("docker info", lambda api: api.info())
    return ["driver-type", "io.containerd.snapshotter.v1"] in (information.get("DriverStatus") or ())


async def load_image(daemon: Daemon, archive: Path, name: str) -> str:
    """Load an archive with the image `name`; return the name that the daemon gives it, or its id."""
    doing = f"{name}: docker load"
    with archive.open("rb") as file:
        lines = await daemon.stream(doing, lambda api: api.load_image(file))  # type: ignore[no-untyped-call]
    # "Loaded image: NAME", or "Loaded image ID: DIGEST"
    return "".join(str(line.get("stream", "")) for line in lines).strip().partition(": ")[2]


async def build_image(daemon: Daemon, context: bytes, name: str, platform: Platform, *, pull: bool) -> str:
    """Build the image `name` (NAME:TAG) from a packed context and return its id.

    The daemon pulls bases that it lacks and, with `pull`, asks for newer ones of those that it has. Raises ImageError
    if the image is not for `platform`.
    """
    lines = await daemon.stream(
        f"{name}: docker build",
        # nocache: Engine 20.10 takes a cached layer's platform for the image's, whatever `platform` is.
        lambda api: api.build(
            fileobj=io.BytesIO(context),
            custom_context=True,
            tag=name,
            platform=str(platform),
            nocache=True,
            pull=pull,
            rm=True,
            forcerm=True,
            decode=True,
        ),
    )
    built = [line["aux"]["ID"] for line in lines if "ID" in (line.get("aux") or {})]
    return await checked_image(daemon, name, platform, built[-1] if built else None)


async def checked_image(daemon: Daemon, name: str, platform: Platform, built: str | None) -> str:
    """The id of the image `name`; ImageError if it is not for `platform`, or is not the one that was `built`."""
    found = await daemon.inspect(name)
    if found is None:
        raise ImageError(f"{name}: the daemon has no such image")
    actual = Platform(found["Os"], found["Architecture"], found.get("Variant", ""))
    if actual != platform:
        raise ImageError(f"{name}: the daemon made an image for {actual}, expected {platform}\n  it is not published")
    if built is not None and found["Id"] != built:
        raise ImageError(f"{name}: found image {found['Id']}, expected {built}: another build took the name")
    return str(found["Id"])


async def tag_image(daemon: Daemon, image_id: str, name: str) -> None:
    """Give the image another name, NAME:TAG."""
    repository, _, tag = name.rpartition(":")
    await daemon.call(f"{name}: docker tag", lambda api: api.tag(image_id, repository, tag))


async def was_pushed(daemon: Daemon, tag: Tag, digest: str | None) -> bool:
    """Whether `digest`, which the registry has under `tag`, is that of the image that the daemon has under it."""
    found = await daemon.inspect(str(tag)) or {}
    return f"{tag.repository}@{digest}" in (found.get("RepoDigests") or ())


async def push_image(daemon: Daemon, tag: Tag, credentials: Credentials | None, report: Report) -> str:
    """Push the image `tag`, and return the digest that the daemon reports for it."""

    def progress(line: Line) -> None:
        if line.get("id") and not line.get("progressDetail"):
            report(f"{tag}: {line['id']} {line.get('status')}")

    doing = f"{tag}: docker push"
    lines = await daemon.stream(
        doing,
        # Given even when empty, or a credential helper would override it (docker-py#3281).
        lambda api: api.push(
            str(tag.repository), tag=tag.name, stream=True, decode=True, auth_config=_auth_config(credentials)
        ),
        progress,
    )
    digests = [found[1] for line in lines if (found := _PUSHED.search(str(line.get("status"))))]
    if not digests:
        raise PublishError(f"{doing}: the daemon ended without a digest\n  see its log, and retry")
    return digests[-1]


async def pull_image(
    daemon: Daemon, name: str, credentials: Callable[[Repository], Awaitable[Credentials | None]], report: Report
) -> None:
    """Pull the image `name`, NAME:TAG, where NAME without a host is Docker Hub's."""
    from docker.auth import resolve_repository_name

    repository, _, tag = name.rpartition(":")
    known = await credentials(Repository(*resolve_repository_name(repository)))

    def progress(line: Line) -> None:
        if not line.get("progressDetail"):
            report(" ".join(filter(None, (f"{name}:", line.get("id"), line.get("status")))))

    await daemon.stream(
        f"{name} can't be pulled",
        lambda api: api.pull(repository, tag=tag, stream=True, decode=True, auth_config=_auth_config(known)),
        progress,
    )


async def saved_image(daemon: Daemon, image_id: str) -> bytes:
    """The archive of an image, without a name (docker save)."""
    return await daemon.call(f"{image_id}: docker save", lambda api: b"".join(api.get_image(image_id)))


def _auth_config(credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        return {}
    return {
        "username": credentials.username,
        "password": credentials.password,
        "identitytoken": credentials.identity_token,
        "registrytoken": credentials.registry_token,
    }
