"""The SBOM of an image, as a document of SPDX 2.3. Equal inputs give equal documents.

This loads spdx-tools, which takes 0.4 s: whoever needs an SBOM imports this module in a function.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from license_expression import ExpressionError, LicenseExpression
from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    File,
    FileType,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.spdx_element_utils import calculate_package_verification_code

from build.attest.sbom.described import Described, Source
from build.attest.sbom.purl import name_of, of_base, of_image, purl
from build.compilers.compiler import RUNTIME
from build.errors import ImageError
from build.oci.image import Origin

# The name in pyproject.toml.
TOOL = "pause-image"
LICENSES = "org.opencontainers.image.licenses"
_DOCUMENT, _IMAGE, _PROGRAM, _SOURCES = "SPDXRef-DOCUMENT", "SPDXRef-Image", "SPDXRef-Program", "SPDXRef-Sources"
_RUNTIME, _LIBC, _COMPILER, _BASE = "SPDXRef-Runtime", "SPDXRef-Libc", "SPDXRef-Compiler", "SPDXRef-Base"
# Those whose packages are in the document: SPDX 2.3, "Relationships between SPDX elements".
_RELATIONSHIPS = (
    (_IMAGE, RelationshipType.CONTAINS, _PROGRAM),
    (_IMAGE, RelationshipType.DESCENDANT_OF, _BASE),
    (_PROGRAM, RelationshipType.GENERATED_FROM, _SOURCES),
    (_PROGRAM, RelationshipType.GENERATED_FROM, _RUNTIME),
    (_PROGRAM, RelationshipType.STATIC_LINK, _LIBC),
    (_COMPILER, RelationshipType.BUILD_TOOL_OF, _PROGRAM),
)
_UNKNOWN = SpdxNoAssertion()


def sbom(described: Described) -> dict[str, Any]:
    """The SPDX document of an image, a JSON value.

    Raises ImageError if `licenses` is not an SPDX license expression.
    """
    title = f"{described.name}-{described.tag}-{described.arch}"
    digest = described.image.digest.partition(":")[2]
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=title,
        document_namespace=f"https://spdx.org/spdxdocs/{quote(title, safe='')}-{digest}",
        creators=[Actor(ActorType.TOOL, TOOL)],
        created=datetime.fromisoformat(described.created),
    )
    ids = _file_ids(described.sources)
    files = _by_package(described.sources, ids)
    license_ = _license(described.licenses)
    packages = [*_contents(described, license_), *_origins(described, files)]
    present = {each.spdx_id for each in packages}
    relationships = [
        Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE),
        *(Relationship(one, how, other) for one, how, other in _RELATIONSHIPS if {one, other} <= present),
        *(Relationship(at, RelationshipType.CONTAINS, each.spdx_id) for at, within in files.items() for each in within),
    ]
    licenses = [
        ExtractedLicensingInfo(name, f"The text of {name}, which the label {LICENSES} names, is not in this document.")
        for name in _own(license_)
    ]
    every_file = [file for within in files.values() for file in within]
    document = Document(info, packages, every_file, [], [], relationships, licenses)
    converted: dict[str, Any] = DocumentConverter().convert(document)
    return converted


def _contents(described: Described, license_: LicenseExpression | None) -> Iterator[Package]:
    """The image and its program."""
    image = described.image
    locator = of_image(described.name, image.digest, image.platform, described.tag)
    package = _package(_IMAGE, described.name, PackagePurpose.CONTAINER, described.tag, image.digest, locator)
    if described.vendor:
        package.supplier = Actor(ActorType.ORGANIZATION, described.vendor)
    yield _licensed(package, license_)

    locator = purl("generic", described.name, described.version, {"checksum": described.binary})
    version, binary = described.version, described.binary
    package = _package(_PROGRAM, described.name, PackagePurpose.APPLICATION, version, binary, locator)
    package.file_name = described.path or None
    if not described.sources:
        package.source_info = "built elsewhere: its sources are not known"
    yield _licensed(package, license_)


def _origins(described: Described, files: dict[str, list[File]]) -> Iterator[Package]:
    """What the image and its program are made from, and with."""
    image, compiler = described.image, described.compiler
    for spdx_id, name in ((_SOURCES, f"{described.name} sources"), (_RUNTIME, RUNTIME)):
        if files[spdx_id]:
            package = _package(spdx_id, name, PackagePurpose.SOURCE, described.version)
            package.files_analyzed = True
            package.verification_code = calculate_package_verification_code(files[spdx_id])
            package.summary = "C in place of a libc" if spdx_id == _RUNTIME else None
            yield package
    if described.libc:
        is_musl = compiler.startswith("zig ") and image.platform.os == "linux"
        package = _package(_LIBC, "musl" if is_musl else "libc", PackagePurpose.LIBRARY)
        package.source_info = f"comes with the compiler, {compiler}"
        yield package
    if compiler:
        name, _, version = compiler.partition(" ")
        locator = purl("pypi", "ziglang", version, {}) if name == "zig" else ""
        yield _package(_COMPILER, name, PackagePurpose.APPLICATION, version, locator=locator)
    if image.origin:
        yield _base(image.origin)


def _base(base: Origin) -> Package:
    package = _package(_BASE, name_of(base), PackagePurpose.CONTAINER, base.digest, base.digest, of_base(base))
    package.source_info = base.name
    package.external_references[0].comment = "The packages of the base are in its own SBOM, and not in this one."
    return package


def _package(
    spdx_id: str, name: str, purpose: PackagePurpose, version: str = "", digest: str = "", locator: str = ""
) -> Package:
    """A package of which nobody has said anything else; `locator` is its package URL."""
    manager = ExternalPackageRefCategory.PACKAGE_MANAGER
    return Package(
        spdx_id,
        name,
        download_location=_UNKNOWN,
        version=version or None,
        supplier=_UNKNOWN,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, digest.partition(":")[2])] if digest else [],
        license_concluded=_UNKNOWN,
        license_declared=_UNKNOWN,
        copyright_text=_UNKNOWN,
        external_references=[ExternalPackageRef(manager, "purl", locator)] if locator else [],
        primary_package_purpose=purpose,
    )


def _licensed(package: Package, license_: LicenseExpression | None) -> Package:
    if license_ is not None:
        package.license_concluded = package.license_declared = license_
    return package


def _license(text: str) -> LicenseExpression | None:
    """The license expression `text`, or None if it is empty; raise ImageError if it is none of SPDX 2.3."""
    if not text:
        return None
    try:
        parsed = spdx_licensing.parse(text, strict=True)
    except (ExpressionError, LookupError) as error:  # LookupError: empty parentheses
        raise _invalid(text, " ".join(str(error).split())) from None
    if parsed is None:
        raise _invalid(text, "it is blank")
    unknown = [each for each in spdx_licensing.unknown_license_keys(parsed, unique=True) if each not in _own(parsed)]
    if unknown:
        raise _invalid(text, f"not on SPDX's list: {', '.join(unknown)}")
    return parsed


def _own(expression: LicenseExpression | None) -> list[str]:
    """The names in an expression that are on nobody's list, sorted."""
    keys = [] if expression is None else spdx_licensing.license_keys(expression, unique=True)
    return sorted(each for each in keys if re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", each))


def _invalid(text: str, why: str) -> ImageError:
    return ImageError(
        f"label {LICENSES}: found {text!r}, expected an SPDX license expression: {why}"
        "\n  such as Apache-2.0 OR MIT, of the names on https://spdx.org/licenses or of LicenseRef-NAME"
    )


def _by_package(sources: Sequence[Source], ids: dict[str, str]) -> dict[str, list[File]]:
    """The files of each package of sources."""
    files: dict[str, list[File]] = {_SOURCES: [], _RUNTIME: []}
    for source in sources:
        checksums = [Checksum(ChecksumAlgorithm.SHA1, source.sha1), Checksum(ChecksumAlgorithm.SHA256, source.sha256)]
        file = File(_file_name(source.path), ids[source.path], checksums, [FileType.SOURCE])
        files[_RUNTIME if source.path.startswith(f"{RUNTIME}/") else _SOURCES].append(file)
    return files


def _file_name(path: str) -> str:
    """The name of a file, relative to the checkout; a header from elsewhere has a URL, as names can't be absolute."""
    path = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return f"file://{quote(path)}" if path.startswith("/") else f"./{path}"


def _file_ids(sources: Sequence[Source]) -> dict[str, str]:
    """A readable SPDX id for each path; where several would be the same, each ends with a hash of its path."""
    readable = {each.path: "SPDXRef-File-" + re.sub(r"[^A-Za-z0-9.]+", "-", each.path) for each in sources}
    count = Counter(readable.values())

    def mark(path: str) -> str:
        return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:12]

    return {path: f"{spdx_id}-{mark(path)}" if count[spdx_id] > 1 else spdx_id for path, spdx_id in readable.items()}
