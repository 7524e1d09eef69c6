"""Parses JSON that others wrote, so that every reader takes it in the same way (RFC 8259; RFC 7493, I-JSON).

Go's encoding/json, in which most readers are written, takes `Layers` for `layers`, and so everything that is equal
under Unicode's simple case folding. A member that equals another one, or one of the specs', only so is refused, except
among names that users choose, such as labels.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from build.errors import ImageError

# The members of an object that the specs know, and the shape of the objects in each.
Shape = Mapping[str, Any]
# A mapping whose names users choose.
FREE: Shape = {}


def _shape(names: str, **within: Shape) -> Shape:
    return {name: within.get(name, {}) for name in (*names.split(), *within)}


_PLATFORM = _shape("architecture os os.version os.features variant features")
_DESCRIPTOR = _shape("mediaType digest size urls data artifactType", platform=_PLATFORM, annotations=FREE)
# image-spec manifest.md, image-index.md, and index.json of image-layout.md.
MANIFEST = _shape(
    "schemaVersion mediaType artifactType",
    annotations=FREE,
    **dict.fromkeys(("config", "layers", "manifests", "blobs", "subject"), _DESCRIPTOR),
)
_SETTINGS = _shape(
    "User Env Entrypoint Cmd WorkingDir StopSignal ArgsEscaped Healthcheck OnBuild Shell",
    **dict.fromkeys(("Labels", "ExposedPorts", "Volumes"), FREE),
)
# image-spec config.md.
CONFIG = _shape(
    "created author architecture os os.version os.features variant",
    config=_SETTINGS,
    container_config=_SETTINGS,
    rootfs=_shape("type diff_ids"),
    history=_shape("created author created_by comment empty_layer"),
)
# image-spec image-layout.md, "oci-layout file".
LAYOUT = _shape("imageLayoutVersion")


def parse(data: bytes, shape: Shape) -> dict[str, Any]:
    """The members of a JSON object; raise ImageError where readers could differ."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_finite, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
        _check(value, shape)
    except RecursionError:
        raise ImageError("not valid JSON: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ImageError(f"not valid JSON: found the byte 0x{data[error.start]:02x}, expected UTF-8") from None
    except UnicodeEncodeError:
        raise ImageError("not valid JSON: found half of a surrogate pair, expected a character") from None
    except ValueError as error:
        raise ImageError(f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"found {shown(value)}, expected an object")
    return value


def shown(value: object) -> str:
    """A value in a message: ASCII, and not too long; the word nothing for a member that is absent or null."""
    if value is None:
        return "nothing"
    text = ascii(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"found several members {shown(name)}")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"found {shown(text)}, expected a finite number")
    return number


def _check(value: Any, shape: Shape) -> None:
    """Raise ValueError for members that differ from each other, or from those of `shape`, only in case."""
    if isinstance(value, list):
        for each in value:
            _check(each, shape)
    elif isinstance(value, dict):
        known = {} if shape is FREE else {_folded(name): name for name in shape}
        for name, within in value.items():
            if shape is not FREE and (other := known.setdefault(_folded(name), name)) != name:
                raise ValueError(f"found the member {shown(name)}, which some readers take for {shown(other)}")
            _check(within, shape.get(name, {}))


def _folded(text: str) -> str:
    """Unicode's simple case folding, which maps each character to one (Unicode, 3.13; CaseFolding.txt, C and S)."""
    if text.isascii():
        return text.lower()
    return "".join(next((each for each in (c.casefold(), c.lower()) if len(each) == 1), c) for c in text)
