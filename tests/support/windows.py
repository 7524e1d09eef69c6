"""Stand-ins for Microsoft's bases, of the real shape: layers with Files and Hives, os.version in config and list."""

from __future__ import annotations

from tests.support.checkout import Checkout
from tests.support.reading import skopeo
from tests.support.strangers import Json, Shelf, tape

# What Microsoft calls each row's Windows, in the table's order.
VERSIONS = {
    "windows-1809": "10.0.17763.6775",
    "windows-ltsc2022": "10.0.20348.3091",
    "windows-ltsc2025": "10.0.26100.2894",
}


def image(shelf: Shelf, version: str, tapes: list[bytes] | None = None, settings: Json | None = None) -> Json:
    """An image for Windows, as an entry of a list with its os.version."""
    files = {"Files": None, "Files/Windows": None, "Files/Windows/System32": None, "Hives": None}
    layer = tape({**files, "Files/Windows/System32/ntdll.dll": version.encode(), "Hives/System_Delta": b"regf"})
    settings = {"Cmd": [r"c:\windows\system32\cmd.exe"], "User": "ContainerUser"} if settings is None else settings
    more = {"os.version": version} if version else {}
    entry = shelf.image("windows/amd64", [layer, *(tapes or [])], settings, more=more)
    entry["platform"] |= more
    return entry


def with_bases(checkout: Checkout, host: str = "") -> Checkout:
    """A checkout whose rows for Windows have stand-ins for bases, in layouts or in the registry `host`."""
    table = (checkout.root / "arches.yaml").read_text()
    for row, version in VERSIONS.items():
        shelf = Shelf(checkout.side / "bases" / row)
        shelf.tag("1", shelf.index(image(shelf, version)))
        base = f"oci:{shelf.folder}:1"
        if host:
            skopeo("copy", "--all", "--quiet", "--dest-tls-verify=false", base, f"docker://{host}/bases/{row}:1")
            base = f"{host}/bases/{row}:1"
        name = row.removeprefix("windows-")
        old = f"base: mcr.microsoft.com/windows/nanoserver:{name}\n"
        assert table.count(old) == 1
        table = table.replace(old, f"base: {base}\n")
    (checkout.root / "arches.yaml").write_text(table)
    checkout.commit("Bases of our own")
    return checkout
