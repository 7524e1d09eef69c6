"""gzip with the same bytes on every machine.

zlib, zlib-ng and the s390x compression unit each compress the same input to other bytes, and Python takes whichever its
system has; a layer's digest would follow. So this compresses by itself: LZ77 and the fixed Huffman codes of RFC 1951,
framed by RFC 1952. It is meant for layers of kilobytes, and any gzip reads it.
"""

from __future__ import annotations

import struct
import zlib

# RFC 1952, 2.3: no flags, no file name, no time, no level, operating system "unknown".
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_WINDOW = 32768
_SHORTEST, _LONGEST = 3, 258


def gzip(data: bytes) -> bytes:
    """Compress `data` into one gzip member."""
    return _HEADER + _deflate(data) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _reversed(code: int, bits: int) -> int:
    return int(f"{code:0{bits}b}"[::-1], 2)


def _literal_code(symbol: int) -> tuple[int, int]:
    # RFC 1951, 3.2.6. Huffman codes go out most significant bit first, everything else least first: hence reversed.
    if symbol < 144:
        return _reversed(0x30 + symbol, 8), 8
    if symbol < 256:
        return _reversed(0x190 + symbol - 144, 9), 9
    if symbol < 280:
        return _reversed(symbol - 256, 7), 7
    return _reversed(0xC0 + symbol - 280, 8), 8


def _ladder(first: int, free: int, group: int, last: int) -> list[tuple[int, int]]:
    """(lowest value, extra bits) per symbol: the first `free` symbols have no extra bits, then one more a `group`."""
    steps, value, at = [], first, 0
    while value <= last:
        extra = max(0, (at - free) // group + 1) if at >= free else 0
        steps.append((value, extra))
        value += 1 << extra
        at += 1
    return steps


_CODES = [_literal_code(symbol) for symbol in range(288)]
_LENGTHS = [*_ladder(_SHORTEST, 8, 4, _LONGEST - 1), (_LONGEST, 0)]
_DISTANCES = _ladder(1, 4, 2, _WINDOW)


def _symbols(steps: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """For each value from the first step's on: symbol, extra bits' number, extra bits."""
    table = []
    for symbol, (low, extra) in enumerate(steps):
        end = steps[symbol + 1][0] if symbol + 1 < len(steps) else low + (1 << extra)
        table += [(symbol, extra, value - low) for value in range(low, end)]
    return table


_LENGTH_OF = _symbols(_LENGTHS)


def _distance(value: int) -> tuple[int, int, int]:
    symbol = max(at for at, (low, _) in enumerate(_DISTANCES) if low <= value)
    low, extra = _DISTANCES[symbol]
    return symbol, extra, value - low


def _deflate(data: bytes) -> bytes:
    out = bytearray()
    pending, width = 0b011, 3  # the last block, and of the fixed-codes kind

    def put(value: int, bits: int) -> None:
        nonlocal pending, width
        pending |= value << width
        width += bits
        while width >= 8:
            out.append(pending & 0xFF)
            pending >>= 8
            width -= 8

    seen: dict[bytes, int] = {}
    at = 0
    while at < len(data):
        found = seen.get(data[at : at + _SHORTEST], -1)
        length = _match(data, found, at) if 0 <= at - found <= _WINDOW and found >= 0 else 0
        if length >= _SHORTEST:
            symbol, extra, rest = _LENGTH_OF[length - _SHORTEST]
            put(*_CODES[257 + symbol])
            put(rest, extra)
            symbol, extra, rest = _distance(at - found)
            put(_reversed(symbol, 5), 5)
            put(rest, extra)
        else:
            length = 1
            put(*_CODES[data[at]])
        for each in range(at, at + length):
            seen[data[each : each + _SHORTEST]] = each
        at += length
    put(*_CODES[256])
    put(0, -width % 8)
    return bytes(out)


def _match(data: bytes, found: int, at: int) -> int:
    most = min(_LONGEST, len(data) - at)
    length = 0
    while length < most and data[found + length] == data[at + length]:
        length += 1
    return length
