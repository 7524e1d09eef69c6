"""The gzip compressor: zlib decompresses its output to the input, at every limit of the format."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from build.image.gzip import gzip
from build.oci.descriptor import digest_of
from tests.support.properties import examples

# By size: the beginning of the digest of what it is compressed to.
LARGE = {(1 << 16) + 1: "sha256:1886b6dac4c79919", 1 << 22: "sha256:5830cf17dbd85a27"}


@examples(150)
@given(st.binary(max_size=2000) | st.lists(st.sampled_from([b"a", b"bc", b"\0" * 300]), max_size=60).map(b"".join))
@example(b"")
@example(b"a" * 3)
@example(b"a" * 258)
@example(b"a" * 259)
@example(b"a" * 260)
@example(b"a" * 517)
@example(b"xyz" + bytes(32765) + b"xyz")
@example(b"xyz" + bytes(32766) + b"xyz")
@example(bytes(range(256)) * 2)
def test_any_bytes_survive_a_round_trip(data: bytes) -> None:
    assert zlib.decompress(gzip(data), wbits=31) == data


@pytest.mark.parametrize(("gap", "is_matched"), [(32768, True), (32769, False)])
def test_the_longest_distance_of_a_match(gap: int, is_matched: bool) -> None:
    start = bytes(range(1, 256))  # no byte occurs twice
    filler = bytes(gap - len(start))
    with_match = len(gzip(start + filler + start)) - len(gzip(start + filler))
    assert (with_match < 20) is is_matched


@pytest.mark.parametrize("length", range(3, 260))
def test_every_length_of_a_match(length: int) -> None:
    text = bytes(value % 251 for value in range(length))
    data = text + b"\xff\xfe\xfd" + text + b"\xfc"
    assert zlib.decompress(gzip(data), wbits=31) == data


@pytest.mark.parametrize("size", LARGE)
def test_large_layers_are_compressed_to_the_same_bytes_everywhere(size: int) -> None:
    data = Random(1).randbytes(size // 2) + bytes(size - size // 2)
    packed = gzip(data)
    assert packed[:8] + packed[9:10] == b"\x1f\x8b\x08\0\0\0\0\0\xff", "no time, no name, no system"
    assert zlib.decompress(packed, wbits=31) == data
    assert size // 2 <= len(packed) < size // 2 + size // 100 + 100
    assert digest_of(packed).startswith(LARGE[size])
