"""Layers of Windows: what the container has is below Files, beside Hives for its registry.

Each member has a security descriptor in a PAX record, as hcsshim reads it (pkg/ociwclayer; go-winio, backuptar).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable

from build.image.layer import layer
from build.image.windows.paths import FILES, HIVES
from build.oci.image import Layer
from build.oci.tar import Folder, Member

_RECORD = "MSWINDOWS.rawsd"
# SID_IDENTIFIER_AUTHORITY of Windows NT; SECURITY_BUILTIN_DOMAIN_RID, DOMAIN_ALIAS_RID_USERS.
_NT, _BUILTIN, _USERS = 5, 32, 545
_SELF_RELATIVE, _HEADER = 0x8000, 20


def windows_layer(members: Iterable[Member], time: int, has: Callable[[str], bool] = lambda _: False) -> Layer:
    """A layer with `members`, whose paths are below FILES, as `build.image.layer.layer` makes it."""
    roots = (Folder(FILES), Folder(HIVES))
    return layer([*roots, *members], time, has, {_RECORD: descriptor()})


def descriptor() -> str:
    """A security descriptor, in base64, of what belongs to the group of all users, and nobody is kept from.

    The bytes are those of SECURITY_DESCRIPTOR_RELATIVE and of SID ("[MS-DTYP]", 2.4.6 and 2.4.2.2).
    """
    users = struct.pack("<BB6sII", 1, 2, _NT.to_bytes(6, "big"), _BUILTIN, _USERS)
    header = struct.pack("<BBHIIII", 1, 0, _SELF_RELATIVE, _HEADER, _HEADER + len(users), 0, 0)
    return base64.b64encode(header + users + users).decode()
