"""Repository names and tags: exactly what the grammar of the distribution spec allows."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from build.errors import UsageError
from build.oci.reference import Reference, Repository, check_tag, full_name
from tests.support.properties import examples

# distribution-spec, "Pulling manifests"; hosts as in distribution/reference, regexp.go. Written as generators, not as
# the expressions that the code has.
LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
LETTERS = LOWER + LOWER.upper()

words = st.text(LOWER, min_size=1, max_size=6)
separators = st.sampled_from([".", "_", "__"]) | st.integers(1, 4).map(lambda count: "-" * count)


@st.composite
def components(draw: st.DrawFn) -> str:
    component = draw(words)
    for _ in range(draw(st.integers(0, 2))):
        component += draw(separators) + draw(words)
    return component


names = st.lists(components(), min_size=1, max_size=4).map("/".join)
# `_` is in the names of hosts in container networks.
labels = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,5}[A-Za-z0-9_])?", fullmatch=True)
domains = st.lists(labels, min_size=2, max_size=4).map(".".join)
addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
ports = st.integers(1, 65535).map(lambda port: f":{port}")
hosts = domains | addresses | st.just("localhost") | st.builds(str.__add__, labels | domains | addresses, ports)
tags = st.builds(str.__add__, st.sampled_from(LETTERS + "_"), st.text(LETTERS + "._-", max_size=127))


@examples(200)
@given(hosts, names)
def test_any_valid_name_is_parsed_unchanged(host: str, name: str) -> None:
    text = f"{host}/{name}"
    assume(len(text) <= 255)
    repository = Repository.parse(text)
    assert (repository.host, repository.name, repository.on_disk) == (host, name, False)
    assert str(repository) == text


@examples(100)
@given(tags)
def test_any_valid_tag_is_accepted(tag: str) -> None:
    assert check_tag(tag) == tag


def refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Repository.parse(text)
    assert repr(text) in str(raised.value)
    assert "expected" in str(raised.value)


SPOILERS = ["", " ", "\n", "\t", "\0", "\x7f", "A", "é", "..", "._", "___", "/", "@", ":x", "\\", "%2f", "?", "~"]


@examples(200)
@given(names, st.sampled_from(SPOILERS[1:]), st.sampled_from(["first", "last"]))
def test_a_name_with_an_invalid_character_at_an_end_is_refused(name: str, spoiler: str, where: str) -> None:
    refused("registry.example/" + (spoiler + name if where == "first" else name + spoiler))


@examples(200)
@given(names, st.sampled_from(SPOILERS[:14]), names)
def test_a_name_with_an_invalid_character_inside_is_refused(before: str, spoiler: str, after: str) -> None:
    spoilt = f"/{spoiler}/"
    refused(f"registry.example/{before}{spoilt}{after}")


@examples(100)
@given(names, st.sampled_from(".-_/"), st.booleans())
def test_a_separator_at_an_end_is_refused(name: str, separator: str, first: bool) -> None:
    refused("registry.example/" + (separator + name if first else name + separator))


@examples(100)
@given(hosts, names, st.sampled_from([" ", "\n", "é", "@", ":", ":x", ":123456", "-.x", ".", "..a", "\0"]))
def test_a_host_with_an_invalid_character_is_refused(host: str, name: str, spoiler: str) -> None:
    refused(f"{host}{spoiler}/{name}")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("pause", id="no host"),
        pytest.param("library/pause", id="a path of Docker Hub, not a host"),
        pytest.param("registry.example", id="no name"),
        pytest.param("registry.example/", id="empty name"),
        pytest.param("/pause", id="empty host"),
        pytest.param("https://registry.example/pause", id="URL"),
        pytest.param("registry.example/pause:3.1", id="tag"),
        pytest.param("registry.example//pause", id="empty component"),
        pytest.param("user@registry.example/pause", id="user"),
        pytest.param("registry.example/pause\n", id="newline last"),
        pytest.param("registry.example\n/pause", id="newline after the host"),
        pytest.param("[::1/pause", id="open bracket"),
        pytest.param("::1/pause", id="bare IPv6"),
        pytest.param("r.example/" + "a" * 246, id="256 characters"),
    ],
)
def test_refused(text: str) -> None:
    refused(text)


def test_a_name_has_at_most_255_characters() -> None:
    assert len(str(Repository.parse("r.example/" + "a" * 245))) == 255


@examples(150)
@given(tags, st.sampled_from([" ", "\n", "\0", "é", "/", ":", "@", "+"]), st.booleans())
def test_a_tag_with_an_invalid_character_is_refused(tag: str, spoiler: str, first: bool) -> None:
    text = spoiler + tag[:100] if first else tag[:100] + spoiler
    with pytest.raises(UsageError, match="is not a tag\n  expected"):
        check_tag(text)


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a" * 129])
def test_an_invalid_tag_is_refused(tag: str) -> None:
    with pytest.raises(UsageError, match="is not a tag"):
        check_tag(tag)


@examples(100)
@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters=":"), min_size=1, max_size=20))
def test_a_folder_is_parsed_unchanged(folder: str) -> None:
    assume(folder.strip("/") and folder.isprintable())
    repository = Repository.parse(f"oci:{folder}")
    assert (repository.on_disk, repository.name, str(repository)) == (True, folder, f"oci:{folder}")


@pytest.mark.parametrize("folder", ["", "/", "//", "a:b", "a\0b", "a\nb", "a\n", "\x7f", "\udcff"])
def test_an_invalid_folder_is_refused(folder: str) -> None:
    refused(f"oci:{folder}")


digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)
folders = (
    st.text("abcXYZ019./_- ", min_size=1, max_size=20)
    .filter(lambda folder: bool(folder.strip("/")))
    .map("oci:".__add__)
)


@examples(300)
@given(st.builds("{}/{}".format, hosts, names) | folders, st.just("") | tags, st.just("") | digests)
def test_any_valid_reference_is_parsed_unchanged(repository: str, tag: str, digest: str) -> None:
    assume(len(repository) <= 255)
    text = repository + (tag and f":{tag}") + (digest and f"@{digest}")
    reference = Reference.parse(text)
    assert str(reference.repository) == repository
    default = "" if digest or repository.startswith("oci:") else "latest"
    assert (reference.tag, reference.digest) == (tag or default, digest)
    assert reference.wanted == (digest or tag or default)
    assert str(reference) == (text if tag or digest or not default else f"{text}:latest")


@pytest.mark.parametrize("entry", ["", ":pause:3.1", ":localhost:5000/a:3.1", ":3.1", ":3.1@sha256:" + "0" * 64])
def test_a_reference_into_an_archive_is_parsed_unchanged(entry: str) -> None:
    assert str(Reference.parse(f"oci-archive:folder/release.tar{entry}")) == f"oci-archive:folder/release.tar{entry}"


@pytest.mark.parametrize(
    "text", ["oci-archive:", "oci-archive:folder/", "oci-archive:a.tar:\x1b", "oci-archive:a.tar@1"]
)
def test_an_invalid_reference_into_an_archive_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        Reference.parse(text)


@examples(200)
@given(
    st.builds("{}/{}".format, hosts, names) | folders, st.sampled_from(["@", "@sha256:", ":", ":.a", ":a:b", "@md5:0"])
)
def test_a_reference_with_an_invalid_character_is_refused(repository: str, spoiler: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        Reference.parse(repository + spoiler)


@examples(300)
@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("pause:3.1", "docker.io/library/pause:3.1"),
        ("team/pause:3.1", "docker.io/team/pause:3.1"),
        ("docker.io/pause:3.1", "docker.io/library/pause:3.1"),
        ("index.docker.io/team/pause:3.1", "docker.io/team/pause:3.1"),
        ("localhost/pause:3.1", "localhost/pause:3.1"),
        ("localhost:5000/pause:3.1", "localhost:5000/pause:3.1"),
        ("registry.example/team/pause:3.1", "registry.example/team/pause:3.1"),
    ],
)
def test_short_names_are_docker_hubs(name: str, full: str) -> None:
    assert full_name(name) == full
