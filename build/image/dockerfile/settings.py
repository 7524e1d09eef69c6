"""The members of a config's `config` that instructions set (image-spec config.md; Docker's Healthcheck and Shell)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from build.errors import ImageError
from build.image.dockerfile.words import exec_form, expand, pairs
from build.oci.strict import shown

Settings = dict[str, Any]
# The members that an image takes over from its base, and their types.
_INHERITED: Mapping[str, type] = {
    **dict.fromkeys(("User", "WorkingDir", "StopSignal"), str),
    **dict.fromkeys(("Env", "Entrypoint", "Cmd", "Shell"), list),
    **dict.fromkeys(("ExposedPorts", "Volumes", "Labels", "Healthcheck"), dict),
    "ArgsEscaped": bool,
    "StopTimeout": int,
}
_JSON_TYPES = {str: "a string", list: "an array", dict: "an object", bool: "true or false", int: "a number"}
_SHELL = ["/bin/sh", "-c"]
_HEALTH_FLAG = re.compile(r"--(interval|timeout|start-period|start-interval|retries)=(\S+)\s+")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|s|m|h))+")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def inherited(members: Mapping[str, Any]) -> Settings:
    """What an image takes over from the `config` of its base; raise ImageError for a member of another type."""
    found = {name: members[name] for name in _INHERITED if members.get(name)}
    for name, value in found.items():
        if not isinstance(value, _INHERITED[name]):
            raise ImageError(f"config: {name}: found {shown(value)}, expected {_JSON_TYPES[_INHERITED[name]]}")
    return found


def variables_of(settings: Settings) -> dict[str, str]:
    """The environment variables of a config."""
    return dict(pair.partition("=")[::2] for pair in settings.get("Env") or ())


def _command(settings: Settings, value: str, has_shell: bool) -> list[str]:
    words = exec_form(value)
    if words:
        return list(words)
    if words is not None or not has_shell:
        raise ImageError(f'{value}: expected the exec form, for example ["/pause"]: the image has no shell')
    return [*(settings.get("Shell") or _SHELL), value]


def entrypoint(settings: Settings, value: str, has_shell: bool) -> None:
    """ENTRYPOINT; CMD is reset by the caller, which knows whether this Dockerfile has set it."""
    settings["Entrypoint"] = _command(settings, value, has_shell)


def cmd(settings: Settings, value: str, has_shell: bool) -> None:
    """CMD"""
    settings["Cmd"] = _command(settings, value, has_shell)


def shell(settings: Settings, value: str, has_shell: bool) -> None:  # noqa: ARG001
    """SHELL"""
    if not (words := exec_form(value)):
        raise ImageError(f'{value}: expected the exec form, for example ["/bin/sh", "-c"]')
    settings["Shell"] = list(words)


def healthcheck(settings: Settings, value: str, has_shell: bool) -> None:
    """HEALTHCHECK NONE, or [FLAG …] CMD COMMAND; times are in nanoseconds."""
    check: dict[str, Any] = {}
    rest = value.strip()
    while flag := _HEALTH_FLAG.match(rest):
        rest = rest[flag.end() :]
        member = "".join(part.capitalize() for part in flag[1].split("-"))
        check[member] = _retries(flag[2]) if flag[1] == "retries" else _nanoseconds(flag[1], flag[2])
    kind, _, command = rest.partition(" ")
    command = command.strip()
    if kind.upper() == "NONE" and not command and not check:
        settings["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind.upper() != "CMD" or not command:
        raise ImageError(f"{value}: expected NONE, or [--interval=30s …] CMD and a command")
    words = exec_form(command)
    if words is None and not has_shell:
        raise ImageError(f'{value}: expected the exec form, for example CMD ["/app"]: the image has no shell')
    settings["Healthcheck"] = {"Test": ["CMD", *words] if words else ["CMD-SHELL", command], **check}


def _retries(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ImageError(f"--retries={text}: expected a whole number")
    return int(text)


def _nanoseconds(flag: str, text: str) -> int:
    total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text))
    if not _DURATION.fullmatch(text) or 0 < total < _UNITS["ms"]:
        raise ImageError(f"--{flag}={text}: expected a time of at least 1ms, for example 30s")
    return round(total)


def user(settings: Settings, value: str, has_base: bool) -> None:
    """USER: numeric, or with a base any name, which runtimes look up in its etc/passwd."""
    pattern = r"[^\s:]+(:[^\s:]+)?" if has_base else r"[0-9]+(:[0-9]+)?"
    if not re.fullmatch(pattern, value):
        raise ImageError(
            f"{value}: expected a user"
            if has_base
            else f"{value}: expected a numeric UID or UID:GID, because the image has no /etc/passwd"
        )
    settings["User"] = value


def env(settings: Settings, value: str, variables: Mapping[str, str]) -> None:
    """ENV"""
    merged = variables_of(settings) | pairs(value, variables)
    settings["Env"] = [f"{name}={each}" for name, each in merged.items()]


def label(settings: Settings, value: str, variables: Mapping[str, str]) -> None:
    """LABEL"""
    settings["Labels"] = {**(settings.get("Labels") or {}), **pairs(value, variables)}


def expose(settings: Settings, value: str, has_base: bool) -> None:  # noqa: ARG001
    """EXPOSE, with ranges of ports."""
    ports = dict(settings.get("ExposedPorts") or {})
    for word in value.split():
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", word, re.IGNORECASE)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not found or not 0 < first <= last < 1 << 16:
            raise ImageError(f"{word}: expected PORT or FIRST-LAST, PORT/tcp, PORT/udp or PORT/sctp")
        ports |= {f"{port}/{(found[3] or 'tcp').lower()}": {} for port in range(first, last + 1)}
    settings["ExposedPorts"] = ports


def volume(settings: Settings, value: str, variables: Mapping[str, str]) -> None:
    """VOLUME"""
    paths = [expand(each, variables) for each in exec_form(value) or value.split()]
    if not paths or not all(each.strip() for each in paths):
        raise ImageError(f"{value}: expected paths")
    settings["Volumes"] = {**(settings.get("Volumes") or {}), **{each: {} for each in paths}}


def stopsignal(settings: Settings, value: str, has_base: bool) -> None:  # noqa: ARG001
    """STOPSIGNAL"""
    if not re.fullmatch(r"SIG[A-Z0-9+-]+|[0-9]+", value):
        raise ImageError(f"{value}: expected a signal's name or number, for example SIGTERM")
    settings["StopSignal"] = value


# How instructions set members. The value of the first ones is a command, in which no variable is replaced; that of the
# second has words, of which each is expanded; that of the others is expanded as a whole.
COMMANDS: Mapping[str, Callable[[Settings, str, bool], None]] = {
    "CMD": cmd,
    "ENTRYPOINT": entrypoint,
    "HEALTHCHECK": healthcheck,
    "SHELL": shell,
}
WORDS: Mapping[str, Callable[[Settings, str, Mapping[str, str]], None]] = {"ENV": env, "LABEL": label, "VOLUME": volume}
PLAIN: Mapping[str, Callable[[Settings, str, bool], None]] = {"USER": user, "EXPOSE": expose, "STOPSIGNAL": stopsignal}
