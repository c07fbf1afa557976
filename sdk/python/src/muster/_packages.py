"""Packages follow the client: which installed distributions a function needs, pinned as they are installed here.

What a function imports is known from its code, from the local modules that travel with it, and from what its pickle
names (`_payload`). The modules among these that lie in a site-packages folder belong to distributions, and those
require others. What did not come from an index (an editable install, a folder, a repository) has no version that a
host could get, so its modules travel as local ones do. Most functions name only the standard library, and for those
nothing here is even imported.

What is found is remembered until a folder of `sys.path` changes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any, NamedTuple, Optional
from urllib.parse import unquote, urlparse

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement

_NEVER = frozenset(("muster", "cloudpickle"))
_TOOLS = frozenset(("pip", "setuptools", "wheel", "distribute"))
"""Parts of every environment that no function imports, unless it says so."""
_LINUX = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}
"""What containers are, whatever this machine is."""


class Found(NamedTuple):
    """What a function needs beside the standard library and what travels already."""

    pins: tuple[str, ...]
    """`name==version`, with all that they require."""
    modules: frozenset[str]
    """Top-level modules of distributions that no index has."""


class _Distribution(NamedTuple):
    name: str
    version: str
    modules: frozenset[str]
    is_local: bool
    found: metadata.Distribution


def needed(names: Iterable[str]) -> Found:
    """What these modules, by their dotted names, need. Names of modules that no distribution has count for nothing."""
    return _known().needed(frozenset(names))


def everything() -> tuple[str, ...]:
    """All that is installed here from an index, pinned."""
    installed = _known().installed.values()
    return tuple(
        sorted(
            f"{one.name}=={one.version}"
            for one in installed
            if not one.is_local and normalized(one.name) not in _NEVER | _TOOLS
        )
    )


def pinned(requirement: Requirement) -> str:
    """A requirement as it is, or with the version installed here where it names none."""
    if requirement.specifier:
        return str(requirement)
    found = _known().installed.get(normalized(requirement.name))
    if found is None or found.is_local:
        return str(requirement)
    requirement.specifier &= type(requirement.specifier)(f"=={found.version}")
    return str(requirement)


def normalized(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


class _Installed:
    """The distributions on `sys.path` at one time."""

    def __init__(self) -> None:
        self.installed: dict[str, _Distribution] = {}
        self._owners: dict[str, list[_Distribution]] = {}
        self._answers: dict[frozenset[str], Found] = {}
        for found in metadata.distributions():
            name = found.metadata["Name"]
            # The first on the path is the one that is imported.
            if name and normalized(name) not in self.installed:
                one = _Distribution(
                    name, found.version, _modules_of(found), _is_local(found), found
                )
                self.installed[normalized(name)] = one
                for module in one.modules:
                    self._owners.setdefault(module, []).append(one)

    def needed(self, names: frozenset[str]) -> Found:
        known = self._answers.get(names)
        if known is None:
            known = self._answers[names] = self._find(names)
        return known

    def _find(self, names: frozenset[str]) -> Found:
        pins: dict[str, str] = {}
        modules: set[str] = set()
        done: set[tuple[str, frozenset[str]]] = set()
        waiting = [(owner, frozenset[str]()) for name in names for owner in self._owners_of(name)]
        while waiting:
            one, extras = waiting.pop()
            key = normalized(one.name)
            if key in _NEVER or (key, extras) in done:
                continue
            done.add((key, extras))
            if one.is_local:
                modules |= one.modules
            else:
                pins[key] = f"{one.name}=={one.version}"
            for requirement in _required(one.found, extras):
                there = self.installed.get(normalized(requirement.name))
                if there is not None:
                    waiting.append((there, frozenset(requirement.extras)))
                elif normalized(requirement.name) not in _NEVER and requirement.url is None:
                    # Needed on Linux, and this machine is none; or missing here too.
                    requirement.marker = None
                    pins.setdefault(normalized(requirement.name), str(requirement))
        return Found(tuple(sorted(pins.values())), frozenset(modules))

    def _owners_of(self, name: str) -> list[_Distribution]:
        """Whose module that is; where several share a namespace, whose files lie deepest on its path."""
        parts = name.split(".")
        owners = self._owners.get(parts[0], [])
        if len(owners) < 2:
            return owners
        for depth in range(len(parts), 0, -1):
            path = "/".join(parts[:depth])
            having = [one for one in owners if _has(one.found, path)]
            if having:
                return having
        return owners


_cache: tuple[Any, Optional[_Installed]] = (None, None)


def _known() -> _Installed:
    global _cache
    stamp = tuple((folder, _time(folder)) for folder in sys.path)
    found = _cache[1]
    if found is None or _cache[0] != stamp:
        found = _Installed()
        _cache = (stamp, found)
    return found


def _time(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def _modules_of(found: metadata.Distribution) -> frozenset[str]:
    listed = (found.read_text("top_level.txt") or "").split()
    if listed:
        return frozenset(listed)
    tops = set()
    for file in found.files or ():
        top = file.parts[0]
        if len(file.parts) > 1:
            if top.isidentifier() and file.suffix in (".py", ".so", ".pyd"):
                tops.add(top)
        elif file.suffix in (".py", ".so", ".pyd"):
            tops.add(top.partition(".")[0])
    return frozenset(tops)


def _has(found: metadata.Distribution, path: str) -> bool:
    return any(
        str(file).startswith(f"{path}/") or str(file).startswith(f"{path}.")
        for file in found.files or ()
    )


def _is_local(found: metadata.Distribution) -> bool:
    """Whether it came from a folder or a repository. Some installers note where they built it, which is gone since."""
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    url = urlparse(str(origin.get("url") or ""))
    return "vcs_info" in origin or (url.scheme == "file" and os.path.exists(unquote(url.path)))


def _required(found: metadata.Distribution, extras: frozenset[str]) -> Iterable[Requirement]:
    environment: dict[str, Any] = {**default_environment(), **_LINUX}
    for line in found.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or any(
            marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
        ):
            yield requirement
