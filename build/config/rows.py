"""The rows of the arch table."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from build.config.arches import HEADERS, PE_HEADERS, Arch, Header, nearest
from build.config.yaml import Node
from build.oci.platform import PLATFORM, Platform
from build.oci.reference import base_reference

_NAME_EXPECTED = "lower-case letters and digits, joined by -, because it becomes part of a repository name"
_BITS = {"PE32": 32, "PE32+": 64}


def arch(name: str, node: Node) -> Arch:
    """The row `name`; raise UsageError for a key that it lacks or should not have, or a value that can't be."""
    platform = _platform(node)
    if platform.is_windows:
        fields = node.fields("triple", "platform", "pe", "base", optional=("cpu",))
    else:
        fields = node.fields("triple", "platform", "elf", "qemu", optional=("runtime", "libc", "cpu"))
    words = name.split("-")
    node.require(
        name.isascii() and all(word.isalnum() for word in words) and name == name.lower(),
        f"arch name {name!r}",
        _NAME_EXPECTED,
    )
    runtime = (
        fields["runtime"].string(r"[a-z0-9_]+", "the NAME of build/runtime/NAME.c") if "runtime" in fields else None
    )
    return Arch(
        name=name,
        triple=fields["triple"].string(r"[a-z0-9_]+(-[a-z0-9_]+)+", "a GNU triple such as aarch64-linux-gnu"),
        platform=platform,
        header=_pe(fields["pe"], platform) if platform.is_windows else _elf(fields["elf"], platform.architecture),
        qemu="" if platform.is_windows else fields["qemu"].string(r"[a-z0-9_]+", "the NAME of qemu-NAME-static"),
        runtime=None if links_libc(fields) else runtime,
        cpu=(
            fields["cpu"].string(r"[a-z0-9][a-z0-9._-]*", "a CPU as gcc calls it, such as arm1176jzf-s or x86-64-v2")
            if "cpu" in fields
            else ""
        ),
        base=_base(fields["base"]) if platform.is_windows else "",
    )


def links_libc(fields: Mapping[str, Node]) -> bool:
    """The key libc."""
    return "libc" in fields and fields["libc"].boolean()


def check_platforms(node: Node, arches: Mapping[str, Arch]) -> None:
    """Raise UsageError for two rows that nodes can't tell apart, and for a row that is called as a group of rows."""
    seen: dict[tuple[Platform, str], str] = {}
    groups = {"all", *(each.platform.os for each in arches.values())}
    for name, fields in node.items():
        fields.require(name not in groups, f"arch name {name!r}", f"another name: --arch {name} selects several rows")
        _check_row(name, dict(fields.items()), arches[name], seen)


def _check_row(name: str, fields: Mapping[str, Node], row: Arch, seen: dict[tuple[Platform, str], str]) -> None:
    key, other = (row.platform, row.base), seen.get((row.platform, row.base))
    if row.base:
        expected = "a different base in each row, because os.version, which it says, tells nodes what they can run"
        fields["base"].require(other is None, f"base {row.base}, which row {other!r} has too", expected)
    else:
        fields["platform"].require(
            other is None,
            f"platform {row.platform}, which row {other!r} has too",
            "a different platform in each row, because nodes select an image from the manifest list by platform",
        )
    seen[key] = name


def _platform(node: Node) -> Platform:
    """The platform, which decides on the other keys; a row without it is read as one for Linux."""
    field = next((value for key, value in node.items() if key == "platform"), None)
    form = "os/architecture[/variant], for example linux/arm/v7"
    return Platform.parse(field.string(PLATFORM, form)) if field else Platform("linux", "")


def _base(node: Node) -> str:
    with node.located():
        base_reference(node.string())
    return node.string()


def _pe(node: Node, platform: Platform) -> Header:
    """The PE header of a row; its names are those of "PE Format", as pefile has them."""
    fields = node.fields("machine", "format")
    machine = fields["machine"].string(r"IMAGE_FILE_MACHINE_[A-Z0-9]+", "a machine such as IMAGE_FILE_MACHINE_AMD64")
    found = Header(machine, _BITS[fields["format"].one_of(*_BITS)], "little")
    expected = PE_HEADERS.get(platform.architecture)
    if expected is None:
        known: Collection[str] = PE_HEADERS.keys()
        raise node.error(f"a program for {platform}", f"an architecture of Windows: {', '.join(known)}")
    why = f"because the platform's architecture is {platform.architecture}"
    fields["machine"].require(machine == expected.machine, machine, f"{expected.machine}, {why}")
    form = next(name for name, bits in _BITS.items() if bits == expected.bits)
    fields["format"].require(found == expected, str(fields["format"].yaml.value), f"{form}, {why}")
    return found


def _elf(node: Node, architecture: str) -> Header:
    """The ELF header of a row; its names are those of the System V gABI, as pyelftools has them."""
    fields = node.fields("machine", "class", "order")
    machine = fields["machine"].string(r"EM_[A-Z0-9_]+", "an ELF machine name such as EM_AARCH64")
    found = Header(machine, fields["class"].one_of(32, 64), fields["order"].one_of("little", "big"))
    expected = HEADERS.get(architecture, found)
    if found != HEADERS.get(architecture):  # or it is right; loading pyelftools would take longer than all the rest
        from elftools.elf.enums import ENUM_E_MACHINE

        if machine not in ENUM_E_MACHINE:
            close = nearest(machine, (each for each in ENUM_E_MACHINE if each.startswith("EM_"))).partition("\n")[0]
            raise fields["machine"].error(repr(machine), f"a machine of the ELF specification{close}")
    for key, here, there in (
        ("machine", found.machine, expected.machine),
        ("class", found.bits, expected.bits),
        ("order", found.order, expected.order),
    ):
        fields[key].require(here == there, str(here), f"{there}, because the platform's architecture is {architecture}")
    return found
