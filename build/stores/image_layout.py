"""Image layouts: names, and index.json, which holds the tags (image-spec image-layout.md, annotations.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from build.errors import ImageError, PublishError
from build.oci.descriptor import Blob
from build.oci.media_types import ARTIFACT, INDEXES, MANIFESTS, OCI
from build.oci.parse import media_type_of
from build.oci.referrer import Referrer, is_referrers_tag, referrer_of, subject_of
from build.oci.strict import LAYOUT, MANIFEST, parse, shown

VERSION = "1.0.0"
# The content of the file oci-layout.
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
# The annotation of an entry in index.json that gives its tag.
REF_NAME = "org.opencontainers.image.ref.name"

# In an archive, an index of what only refers to others; it has the form of index.json.
REFERRERS = "referrers.json"

Entry = Mapping[str, Any]


def blob_path(digest: str) -> str:
    """The path of the blob with this digest, relative to the layout."""
    return "blobs/" + digest.replace(":", "/")


def check_layout(data: bytes) -> None:
    """Raise ImageError unless this is the file oci-layout of the version that there is."""
    found = parse(data, LAYOUT).get("imageLayoutVersion")
    if found != VERSION:
        raise ImageError(f"found image layout version {shown(found)}, expected {VERSION!r}")


def parse_index(data: bytes) -> dict[str, Any]:
    """The members of an index.json; a list or a mapping that is null is empty. Raises ImageError if it is malformed."""
    index = parse(data, MANIFEST)
    if "manifests" in index and index["manifests"] is None:
        index["manifests"] = []
    if not isinstance(index.get("manifests"), list):
        raise ImageError(f"manifests: found {shown(index.get('manifests'))}, expected an array")
    for at, entry in enumerate(index["manifests"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
            raise ImageError(f"manifests[{at}]: found {shown(entry)}, expected a descriptor with a digest")
        if entry.get("annotations", {}) is None:
            del entry["annotations"]
        annotations = entry.get("annotations", {})
        if not isinstance(annotations, dict) or not isinstance(annotations.get(REF_NAME, ""), str):
            raise ImageError(f"manifests[{at}].annotations: found {shown(annotations)}, expected strings")
    return index


def name_of(entry: Entry) -> str:
    """The name of an entry of index.json; empty if it has none."""
    return str(entry.get("annotations", {}).get(REF_NAME, ""))


def named(entries: Sequence[Entry], name: str) -> Entry | None:
    """The entry that `name` refers to, or None: the one called so, or by a full reference that ends in `name`.

    An entry without a name, if it is the only one, has any, but those for referrers. `name` is TAG in a layout,
    NAME:TAG in an archive. Raises ImageError where readers could take different ones.
    """
    separator = "/" if ":" in name else ":"
    found = [each for each in entries if name_of(each) == name]
    found = found or [each for each in entries if name_of(each).endswith(separator + name)]
    if not found and len(entries) == 1 and not name_of(entries[0]) and not is_referrers_tag(name.rpartition(":")[2]):
        found = list(entries)
    digests = list(dict.fromkeys(str(each["digest"]) for each in found))
    if len(digests) > 1:
        raise ImageError(f"index.json: {name!r} stands for several entries: {', '.join(digests)}")
    return found[0] if found else None


def with_digest(entries: Sequence[Entry], digest: str) -> Entry:
    """The entry with this digest; an empty one if there is none, as for an image of a list."""
    return next((each for each in entries if each["digest"] == digest), {})


def _may_refer(entry: Entry) -> bool:
    """Whether an entry may be a manifest with a `subject` that has no index of referrers, as oras writes it."""
    kind = entry.get("mediaType") or OCI.manifest
    return not is_referrers_tag(name_of(entry).rpartition(":")[2]) and kind in MANIFESTS | INDEXES | {ARTIFACT}


def _is_artifact(entry: Entry) -> bool:
    """Whether an entry without a name says that it is an artifact, as oras has it for referrers."""
    return bool(entry.get("artifactType")) and not name_of(entry)


Referring = tuple[str, Referrer] | None


def referring(manifest: Blob) -> Referring:
    """The subject of a manifest, and its entry in an index of referrers; None if it has no subject."""
    subject = subject_of(manifest.data)
    return (subject, referrer_of(manifest)) if subject else None


def referrers_in(entries: Iterable[Entry], digest: str, read: Callable[[Entry], Referring]) -> Iterator[Referrer]:
    """The entries of index.json whose manifest refers to `digest`; `read` is `referring` of an entry's manifest.

    Raises ImageError for one that can't be read and says that it is an artifact: any other is as likely an image, and
    whoever needs that reads it.
    """
    for entry in filter(_may_refer, entries):
        try:
            found = read(entry)
            if found and found[0] == digest:
                yield found[1]
        except (PublishError, ImageError) as error:
            if _is_artifact(entry):
                raise ImageError(f"{entry['digest']}: {error}") from None


def manifest_of(entry: Entry, data: bytes) -> Blob:
    """The manifest that an entry of index.json describes; raise ImageError if it is of another size."""
    if (size := entry.get("size", len(data))) != len(data):
        raise ImageError(
            f"{entry.get('digest')}: size: found {len(data)} bytes, expected {shown(size)} as in index.json"
        )
    return Blob.of(str(entry.get("mediaType") or media_type_of(data, "")), data)
