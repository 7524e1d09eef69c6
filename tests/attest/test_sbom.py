"""An SBOM is valid SPDX, the same for the same image, and names every file that the program was made from."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spdx_tools.spdx.model import Document
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from build.attest.sbom.described import Described, Source, sources_of
from build.attest.sbom.purl import of_image, purl
from build.attest.sbom.sbom import sbom
from build.cache.cache import Cache
from build.compilers.compiler import Program, files
from build.compilers.includes import reader
from build.config.arches import Arch
from build.config.revision import Revision
from build.errors import CompileError, ImageError
from build.image.assemble import assemble
from build.image.spec import Spec
from build.oci.descriptor import digest_of
from build.oci.image import Image, Origin, dump, image_of
from build.oci.media_types import OCI
from build.oci.platform import Platform
from build.oci.reference import Repository
from tests.support.checkout import SETTINGS, SOURCE

AMD64 = SETTINGS.arches["amd64"]
LINUX = [arch for arch in SETTINGS.arches.values() if not arch.platform.is_windows]
REVISION = Revision("abc123", 981_173_106)
VERSION = "v3.1-abc123"
DIGEST = f"sha256:{'5' * 64}"
NO_ASSERTION = "NOASSERTION"


def built(arch: Arch, binary: bytes) -> Image:
    """The image of pause, with any binary."""
    settings = SETTINGS.images["pause"]
    spec = Spec(SOURCE, settings, arch, "3.1", REVISION, OCI, f"bin/pause-{arch.name}", ("pause:3.1",))
    cache = Cache(Path(os.devnull), keep=False)
    return assemble(spec, binary, digest_of(binary), cache, lambda _, __: None)


def pause(arch: Arch = AMD64, libc: bool = False) -> Described:
    """Pause as it is built here; the binary is not compiled, as an SBOM has no more of it than its digest."""
    binary = f"a program for {arch.name}".encode()
    program = Program("pause", ("pause.c",), (), VERSION, libc)
    return Described(
        image=built(arch, binary),
        name="pause",
        tag="3.1",
        arch=arch.name,
        version=VERSION,
        created=REVISION.created,
        binary=digest_of(binary),
        path="/pause",
        sources=sources_of(SOURCE, program, arch),
        compiler="zig 0.17.1",
        libc=program.runtime(arch) is None,
    )


def prebuilt() -> Described:
    return replace(pause(), sources=(), compiler="", libc=False)


def on(base: str, repository: Repository) -> Described:
    """Pause upon the image `base`."""
    config = {"os": "linux", "architecture": "amd64"}
    below = replace(image_of(config, [], OCI), origin=Origin(base, DIGEST, repository, 0))
    return replace(pause(), image=image_of(config, [], OCI, below))


def parsed(document: dict[str, Any]) -> Document:
    """The document as the library reads its bytes, once it is found valid."""
    read: Document = JsonLikeDictParser().parse(json.loads(dump(document)))
    assert validate_full_spdx_document(read, "SPDX-2.3") == []
    return read


def packages(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["SPDXID"].removeprefix("SPDXRef-"): each for each in document["packages"]}


def relationships(document: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Those that are not of files, without the prefix of ids."""
    found = set()
    for each in document["relationships"]:
        ends = [each[key].removeprefix("SPDXRef-") for key in ("spdxElementId", "relatedSpdxElement")]
        if not ends[1].startswith("File-"):
            found.add((ends[0], each["relationshipType"], ends[1]))
    return found


def locator(package: dict[str, Any]) -> str:
    [reference] = package["externalRefs"]
    assert (reference["referenceCategory"], reference["referenceType"]) == ("PACKAGE_MANAGER", "purl")
    return str(reference["referenceLocator"])


def checksum(package: dict[str, Any]) -> str:
    [found] = package["checksums"]
    return f"{found['algorithm'].lower()}:{found['checksumValue']}"


@pytest.mark.parametrize("arch", LINUX, ids=lambda arch: arch.name)
@pytest.mark.parametrize("libc", [False, True])
def test_the_sbom_of_pause_is_valid_and_says_what_it_is_made_of(arch: Arch, libc: bool) -> None:
    described = pause(arch, libc)
    document = sbom(described)
    parsed(document)
    found = packages(document)
    assert set(found) == {"Image", "Program", "Sources", "Compiler", "Libc" if libc else "Runtime"}
    assert relationships(document) == {
        ("DOCUMENT", "DESCRIBES", "Image"),
        ("Image", "CONTAINS", "Program"),
        ("Program", "GENERATED_FROM", "Sources"),
        ("Compiler", "BUILD_TOOL_OF", "Program"),
        ("Program", "STATIC_LINK", "Libc") if libc else ("Program", "GENERATED_FROM", "Runtime"),
    }
    image, program = found["Image"], found["Program"]
    assert (image["name"], image["versionInfo"], image["primaryPackagePurpose"]) == ("pause", "3.1", "CONTAINER")
    assert checksum(image) == described.image.digest
    assert (program["name"], program["versionInfo"], program["packageFileName"]) == ("pause", VERSION, "/pause")
    assert checksum(program) == described.binary
    assert locator(found["Compiler"]) == "pkg:pypi/ziglang@0.17.1"
    assert document["creationInfo"] == {"created": "2001-02-03T04:05:06Z", "creators": ["Tool: pause-image"]}
    assert document["dataLicense"] == "CC0-1.0"
    assert document["name"] == f"pause-3.1-{arch.name}"


@pytest.mark.parametrize("arch", LINUX, ids=lambda arch: arch.name)
def test_every_file_that_the_compiler_may_read_is_in_it(arch: Arch) -> None:
    document = sbom(pause(arch))
    expected = list(files(reader(SOURCE), Program("pause", ("pause.c",), (), VERSION), arch))
    assert {"pause.c", f"build/runtime/{arch.runtime}.c", "build/runtime/link.ld"} < set(expected)
    for tool, algorithm in (("sha256sum", "SHA256"), ("sha1sum", "SHA1")):
        sums = subprocess.run([tool, *expected], cwd=SOURCE, check=True, stdout=subprocess.PIPE, text=True).stdout
        assert {
            f"{one['checksumValue']}  {each['fileName'].removeprefix('./')}"
            for each in document["files"]
            for one in each["checksums"]
            if one["algorithm"] == algorithm
        } == set(sums.splitlines())


def test_each_file_is_in_the_package_that_it_is_of_and_counts_in_its_verification_code() -> None:
    document = sbom(pause())
    sha1 = {each["SPDXID"]: each["checksums"][0]["checksumValue"] for each in document["files"]}
    for spdx_id, prefix in (("Sources", "SPDXRef-File-pause.c"), ("Runtime", "SPDXRef-File-build-runtime-")):
        contained = [
            each["relatedSpdxElement"]
            for each in document["relationships"]
            if (each["spdxElementId"], each["relationshipType"]) == (f"SPDXRef-{spdx_id}", "CONTAINS")
        ]
        assert contained
        assert all(each.startswith(prefix) for each in contained)
        # SPDX 2.3, 7.9: of the digests, sorted and joined.
        code = hashlib.sha1("".join(sorted(sha1.pop(each) for each in contained)).encode()).hexdigest()
        found = packages(document)[spdx_id]
        assert found["packageVerificationCode"] == {"packageVerificationCodeValue": code}
    assert sha1 == {}


def test_a_program_that_was_built_elsewhere_has_a_checksum_and_no_files() -> None:
    described = prebuilt()
    document = sbom(described)
    assert not parsed(document).files
    found = packages(document)
    assert set(found) == {"Image", "Program"}
    assert found["Program"]["filesAnalyzed"] is False
    assert checksum(found["Program"]) == described.binary
    assert relationships(document) == {("DOCUMENT", "DESCRIBES", "Image"), ("Image", "CONTAINS", "Program")}


@pytest.mark.parametrize(
    ("name", "repository", "expected"),
    [
        (
            "registry.example:5000/team/Base:12",
            Repository("registry.example:5000", "team/base"),
            f"pkg:oci/base@{DIGEST}?repository_url=registry.example:5000%2Fteam%2Fbase",
        ),
        ("oci:dist/debian 12:12", Repository("", "dist/debian 12"), f"pkg:oci/debian%2012@{DIGEST}"),
        ("oci-archive:a.tar:x:1", Repository("oci-archive:a.tar", "x"), f"pkg:oci/x@{DIGEST}"),
        ("oci-archive:a.tar", Repository("oci-archive:a.tar", ""), f"pkg:oci/base@{DIGEST}"),
    ],
)
def test_a_base_is_named_by_its_digest(name: str, repository: Repository, expected: str) -> None:
    document = sbom(on(name, repository))
    parsed(document)
    base = packages(document)["Base"]
    assert checksum(base) == DIGEST
    assert base["sourceInfo"] == name
    assert locator(base) == expected
    assert "own SBOM" in base["externalRefs"][0]["comment"]
    assert ("Image", "DESCENDANT_OF", "Base") in relationships(document)


@pytest.mark.parametrize(
    ("given_", "expected", "own"),
    [
        ("", NO_ASSERTION, []),
        ("Apache-2.0", "Apache-2.0", []),
        ("Apache-2.0 OR MIT", "Apache-2.0 OR MIT", []),
        ("mit and (apache-2.0 or bsd-3-clause)", "MIT AND (Apache-2.0 OR BSD-3-Clause)", []),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0", []),
        ("LicenseRef-B OR LicenseRef-A.1", "LicenseRef-B OR LicenseRef-A.1", ["LicenseRef-A.1", "LicenseRef-B"]),
    ],
)
def test_licenses_are_those_of_the_label(given_: str, expected: str, own: list[str]) -> None:
    document = sbom(replace(pause(), licenses=given_))
    parsed(document)
    for name, package in packages(document).items():
        said = {package["licenseConcluded"], package["licenseDeclared"]}
        assert said == {expected if name in {"Image", "Program"} else NO_ASSERTION}
    assert [each["licenseId"] for each in document.get("hasExtractedLicensingInfos", ())] == own


@pytest.mark.parametrize(
    "text",
    [
        *("Apache 2", "MIT MIT", "MIT AND", "(MIT", "()", " ", "MIT/X11", "MIT\x1b[31m", "NOASSERTION"),
        *("MIT WITH MIT", "Classpath-exception-2.0", "DocumentRef-a:LicenseRef-b", "LicenseRef-a_b"),
    ],
)
def test_an_invalid_license_names_the_label_and_its_value(text: str) -> None:
    with pytest.raises(ImageError) as error:
        sbom(replace(pause(), licenses=text))
    assert f"label org.opencontainers.image.licenses: found {text!r}, expected an SPDX license" in str(error.value)


WORDS = st.sampled_from(["MIT", "Apache-2.0", "AND", "or", "WITH", "(", ")", "+", " ", "LicenseRef-", "é", ":", "0"])
PREBUILT = prebuilt()


@given(st.lists(WORDS, max_size=8).map("".join) | st.lists(WORDS, max_size=8).map(" ".join) | st.text())
def test_whatever_a_license_says_the_sbom_is_valid_or_refused(text: str) -> None:
    try:
        document = sbom(replace(PREBUILT, licenses=text))
    except ImageError:
        return
    parsed(document)


def test_the_same_input_gives_the_same_bytes_in_any_process() -> None:
    script = (
        "import sys; from tests.attest import test_sbom as t\n"
        "described = t.replace(t.on('a.example/b:1', t.Repository('a.example', 'b')),"
        " licenses='LicenseRef-B OR LicenseRef-A', sources=t.pause().sources)\n"
        "sys.stdout.buffer.write(t.dump(t.sbom(described)))"
    )
    documents = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=SOURCE,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert len(documents) == 1
    assert json.loads(documents.pop())["hasExtractedLicensingInfos"]


def changed(described: Described, path: str) -> Sequence[Source]:
    """The sources with another content of one file."""
    return [Source.of(path, b"other") if each.path == path else each for each in described.sources]


@pytest.mark.parametrize("path", ["pause.c", "build/runtime/include/unistd.h"])
def test_a_changed_source_changes_it(path: str) -> None:
    described = pause()
    before, now = sbom(described), sbom(replace(described, sources=changed(described, path)))
    assert dump(before) != dump(now)
    codes = [[package.get("packageVerificationCode") for package in each["packages"]] for each in (before, now)]
    assert sum(old != new for old, new in zip(*codes, strict=True)) == 1


def test_the_namespace_is_of_one_image() -> None:
    first, second = (replace(pause(), image=built(AMD64, binary)) for binary in (b"one", b"two"))
    names = [sbom(each)["documentNamespace"] for each in (first, second)]
    assert names == [
        f"https://spdx.org/spdxdocs/pause-3.1-amd64-{each.image.digest.removeprefix('sha256:')}"
        for each in (first, second)
    ]
    assert names[0] != names[1]


def test_files_with_similar_names_have_ids_of_their_own() -> None:
    paths = ["a/b.c", "a-b.c", "a_b.c", "c.c", "../up.h", "/opt/ä b.h", "\udcff.h", "a:b.c"]
    sources = [Source.of(path, path.encode(errors="surrogateescape")) for path in paths]
    document = sbom(replace(pause(), sources=sources))
    parsed(document)
    ids = {each["fileName"]: each["SPDXID"] for each in document["files"]}
    assert len(set(ids.values())) == len(paths)
    assert ids["./c.c"] == "SPDXRef-File-c.c"
    assert {"./../up.h", "file:///opt/%C3%A4%20b.h", "./\\xff.h"} < set(ids)


@pytest.mark.parametrize("identity", ["kube-cross sha256:12", "aarch64-linux-gnu-gcc (Debian 14.2.0-19) 14.2.0", "cc"])
def test_every_compiler_is_named_with_its_version(identity: str) -> None:
    document = sbom(replace(pause(), compiler=identity, libc=True))
    parsed(document)
    compiler, libc = (packages(document)[each] for each in ("Compiler", "Libc"))
    assert " ".join(filter(None, (compiler["name"], compiler.get("versionInfo")))) == identity
    assert "externalRefs" not in compiler
    assert (libc["name"], libc["sourceInfo"]) == ("libc", f"comes with the compiler, {identity}")


@pytest.mark.parametrize("vendor", ["Example", "Example (Berlin) GmbH", "a@b.c"])
def test_the_vendor_is_the_supplier_of_the_image(vendor: str) -> None:
    document = sbom(replace(pause(), vendor=vendor))
    parsed(document)
    assert packages(document)["Image"]["supplier"] == f"Organization: {vendor}"


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"^pause\.c: no such file"):
        sources_of(tmp_path, Program("pause", ("pause.c",), (), VERSION), AMD64)


def test_package_urls_are_canonical() -> None:
    # The example of the type oci in package-url/purl-spec.
    qualifiers = {"tag": "latest", "repository_url": "docker.io/library/debian", "arch": "amd64", "os": ""}
    assert (
        purl("oci", "debian", "sha256:244fd47e07d10", qualifiers)
        == "pkg:oci/debian@sha256:244fd47e07d10?arch=amd64&repository_url=docker.io%2Flibrary%2Fdebian&tag=latest"
    )
    assert (
        of_image("Pause", DIGEST, Platform("linux", "arm", "v7"), "3.1_~a")
        == f"pkg:oci/pause@{DIGEST}?arch=arm&os=linux&tag=3.1_~a&variant=v7"
    )
    assert purl("generic", "a/b", "", {}) == "pkg:generic/a%2Fb"
