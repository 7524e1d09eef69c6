"""A gzip compressor whose output is the same on every machine.

zlib, zlib-ng and the s390x compression unit compress the same input to different bytes, and Python uses whichever the
system has, so the layer digest would depend on the machine. What is small is compressed here, with LZ77 and the fixed
Huffman codes of RFC 1951, in the format of RFC 1952: that takes less time than to load a library. What is large is left
to libdeflate, which comes in a wheel of a pinned version.
"""

from __future__ import annotations

import struct
import zlib

# RFC 1952, 2.3: no flags, no file name, mtime 0, no extra flags, operating system "unknown".
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
# RFC 1951, 2: limits of the distance and the length of a match, in bytes.
_MAX_DISTANCE = 32768
_MIN_LENGTH, _MAX_LENGTH = 3, 258
_END_OF_BLOCK, _FIRST_LENGTH_SYMBOL = 256, 257
# Bytes. Here, a megabyte would take a second and 100 MB of memory.
_LARGEST = 1 << 16
# libdeflate's levels are 1 to 12.
_LEVEL = 9


def gzip(data: bytes) -> bytes:
    """Compress `data` into one gzip member."""
    if len(data) > _LARGEST:
        from deflate import gzip_compress

        return bytes(gzip_compress(data, _LEVEL))
    return _HEADER + _deflate(data) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _reverse(code: int, bits: int) -> int:
    return int(f"{code:0{bits}b}"[::-1], 2)


def _fixed_code(symbol: int) -> tuple[int, int]:
    """Fixed Huffman code and its length in bits (RFC 1951, 3.2.6).

    It is reversed because Huffman codes are written from the most significant bit, but everything else from the least
    (3.1.1).
    """
    if symbol < 144:
        return _reverse(0x30 + symbol, 8), 8
    if symbol < 256:
        return _reverse(0x190 + symbol - 144, 9), 9
    if symbol < 280:
        return _reverse(symbol - 256, 7), 7
    return _reverse(0xC0 + symbol - 280, 8), 8


def _ranges(first: int, last: int, without_extra: int, per_extra: int) -> list[tuple[int, int]]:
    """The tables of RFC 1951, 3.2.5: for each symbol the lowest value of its range and the number of extra bits.

    The first `without_extra` symbols have no extra bits; then the number grows by one every `per_extra` symbols.
    """
    ranges: list[tuple[int, int]] = []
    value = first
    while value <= last:
        extra = max(0, (len(ranges) - without_extra) // per_extra + 1)
        ranges.append((value, extra))
        value += 1 << extra
    return ranges


_FIXED_CODES = [_fixed_code(symbol) for symbol in range(288)]
# The longest length has a symbol of its own.
_LENGTH_RANGES = [*_ranges(_MIN_LENGTH, _MAX_LENGTH - 1, 8, 4), (_MAX_LENGTH, 0)]
_DISTANCE_RANGES = _ranges(1, _MAX_DISTANCE, 4, 2)


def _encode(value: int, ranges: list[tuple[int, int]]) -> tuple[int, int, int]:
    """Symbol, extra bits and their number for a length or a distance."""
    symbol = max(index for index, (lowest, _) in enumerate(ranges) if lowest <= value)
    lowest, extra = ranges[symbol]
    return symbol, value - lowest, extra


_ENCODED_LENGTHS = {length: _encode(length, _LENGTH_RANGES) for length in range(_MIN_LENGTH, _MAX_LENGTH + 1)}


def _deflate(data: bytes) -> bytes:
    out = bytearray()
    buffer, width = 0b011, 3  # BFINAL 1, BTYPE 01: the only block, compressed with fixed codes

    def put(value: int, bits: int) -> None:
        nonlocal buffer, width
        buffer |= value << width
        width += bits
        while width >= 8:
            out.append(buffer & 0xFF)
            buffer >>= 8
            width -= 8

    last_seen: dict[bytes, int] = {}
    position = 0
    while position < len(data):
        start = last_seen.get(data[position : position + _MIN_LENGTH], -_MAX_DISTANCE - 1)
        length = _match_length(data, start, position) if position - start <= _MAX_DISTANCE else 0
        if length >= _MIN_LENGTH:
            symbol, extra_bits, extra = _ENCODED_LENGTHS[length]
            put(*_FIXED_CODES[_FIRST_LENGTH_SYMBOL + symbol])
            put(extra_bits, extra)
            symbol, extra_bits, extra = _encode(position - start, _DISTANCE_RANGES)
            put(_reverse(symbol, 5), 5)
            put(extra_bits, extra)
        else:
            length = 1
            put(*_FIXED_CODES[data[position]])
        for index in range(position, position + length):
            last_seen[data[index : index + _MIN_LENGTH]] = index
        position += length
    put(*_FIXED_CODES[_END_OF_BLOCK])
    put(0, -width % 8)
    return bytes(out)


def _match_length(data: bytes, start: int, position: int) -> int:
    limit = min(_MAX_LENGTH, len(data) - position)
    length = 0
    while length < limit and data[start + length] == data[position + length]:
        length += 1
    return length
