"""Local modules travel: which of this process's modules a container cannot have, and their files.

A module is *local* when its file is neither in the standard library nor in a site-packages folder: the modules beside
a script, a project's package, an editable install. Functions and classes of local modules are pickled by reference, so
the modules go along as files: every one this process has loaded, and those that their imports, or the function's, name
and that are not loaded yet. A regular package goes whole: Python files, extension modules and small data files.

A second call must cost little, so all that is found is remembered: modules are classified once, files are read
again only when their size or time changed, folders are listed again only when theirs did.

A few modules have no file that could be imported there, and their functions and classes go by value, as
those of `__main__` do: `__mp_main__` (a script in a multiprocessing child), modules made with `exec`, and test modules
loaded by pytest, which are scripts in all but name and would need pytest in the container.
"""

from __future__ import annotations

import json
import os
import sys
from types import CodeType, ModuleType
from typing import Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from ._code import imported_names
from ._errors import PicklingError
from ._locate import (
    MAX_FILES,
    find_inside,
    find_top,
    folder_time,
    imports_of,
    is_local,
    walk,
)

MAX_BYTES = 64 << 20
"""How much may travel with one function, in bytes."""

_OWN = frozenset(("muster", "cloudpickle", "__main__", "__mp_main__"))
# Debuggers live outside site-packages, and are no part of anybody's program.
_DEBUGGERS = ("pydev", "_pydev", "debugpy", "__pydev")
_STDLIB_NAMES = frozenset(getattr(sys, "stdlib_module_names", sys.builtin_module_names))


def is_everywhere(name: str) -> bool:
    """Whether a module of this name is the standard library's, or ours: a container has it."""
    top = name.partition(".")[0]
    return top in _STDLIB_NAMES or top in _OWN


class _File(NamedTuple):
    """One file as it was read."""

    stamp: Tuple[int, int]
    content: bytes
    imports: Tuple[str, ...]


class _Unit(NamedTuple):
    """What travels together: a module's file, or the folder of a regular package."""

    source: str
    target: str
    package: bool


class Archive(NamedTuple):
    """Modules packed for a FUNCTION frame."""

    listing: bytes
    """JSON array of `{"path", "root", "len"}`."""
    content: bytes
    files: Dict[str, bytes]


class Modules:
    """What is known about this process's modules. Not for several threads at once."""

    def __init__(self) -> None:
        self.by_value: Set[str] = {"__mp_main__"}
        self._seen: Set[str] = set()
        self._resolved: Set[str] = set()
        self._units: Dict[str, _Unit] = {}
        self._files: Dict[str, _File] = {}
        self._folders: Dict[str, Tuple[Dict[str, int], List[str]]] = {}
        self._archive: Optional[Archive] = None
        self._sources: Dict[str, str] = {}
        self._installed: Dict[str, bool] = {}

    def look(self) -> None:
        """Classifies the modules that were loaded since the last time."""
        for name in sys.modules.keys() - self._seen:
            self._seen.add(name)
            module = sys.modules.get(name)
            if isinstance(module, ModuleType) and name not in _OWN:
                self._classify(name, module)

    def ships(self, name: str) -> bool:
        """Whether this module travels with functions, as far as is known from those that did."""
        if name == "__main__" or name in self.by_value:
            return True
        parts = name.split(".")
        packages = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        if any(path in self._units and self._units[path].package for path in packages):
            return True
        file = "/".join(parts) + "."
        return any(target.startswith(file) for target in self._units)

    def archive(self, codes: Iterable[CodeType]) -> Archive:
        """All that must travel with a function whose code, and that of what it calls by value, is `codes`."""
        for code in codes:
            for name in imported_names(code):
                self._follow(name)
        changed = False
        done: Set[str] = set()
        files: Dict[str, Tuple[str, str]] = {}
        # Reading a file may name further modules, so go on until a round finds none.
        while len(done) < len(self._units):
            for target in [target for target in self._units if target not in done]:
                done.add(target)
                unit = self._units[target]
                for source, path in self._list(unit):
                    changed |= self._refresh(source, path)
                    files.setdefault(path, (source, path))
        known = self._archive
        if known is None or changed or known.files.keys() != files.keys():
            known = self._archive = self._pack(files)
            self._sources = {path: source for source, path in files.values()}
        return known

    # What is installed

    def foreign(self, names: Iterable[str], codes: Iterable[CodeType]) -> FrozenSet[str]:
        """The installed modules that these names, and the imports of `codes`, lead to through travelling modules."""
        waiting = [*names]
        for code in codes:
            waiting.extend(imported_names(code))
        done: Set[str] = set()
        found: Set[str] = set()
        while waiting:
            name = waiting.pop()
            top = name.partition(".")[0]
            if name in done or is_everywhere(top):
                continue
            done.add(name)
            files = self._files_of(name)
            for file in files:
                waiting.extend(self._files[file].imports)
            if not files and self._is_installed(top):
                found.add(name)
        return frozenset(found)

    def travel(self, tops: Iterable[str]) -> bool:
        """Lets these installed modules travel as local ones do; whether any did not before."""
        before = len(self._units)
        for top in tops:
            file, _ = find_top(top)
            if file is not None:
                self._add(top, os.path.abspath(file))
        return len(self._units) > before

    def _files_of(self, name: str) -> List[str]:
        """The travelling files that importing `name` runs."""
        path, found = "", []
        for part in name.split("."):
            path = f"{path}/{part}" if path else part
            for candidate in (f"{path}/__init__.py", f"{path}.py"):
                if candidate in self._sources:
                    found.append(self._sources[candidate])
        return found

    def _is_installed(self, top: str) -> bool:
        known = self._installed.get(top)
        if known is None:
            file, folders = find_top(top)
            places = folders if file is None else [file]
            known = self._installed[top] = bool(places) and not all(map(is_local, places))
        return known

    # Which modules

    def _classify(self, name: str, module: ModuleType) -> None:
        top = name.partition(".")[0]
        if is_everywhere(top) or top.startswith(_DEBUGGERS):
            return
        file = getattr(module, "__file__", None)
        if not isinstance(file, str):
            spec = getattr(module, "__spec__", None)
            if name == top and spec is None and not hasattr(module, "__path__"):
                self.by_value.add(name)
            return
        if not is_local(file) or not os.path.isfile(file):
            return
        loader = type(getattr(module, "__loader__", None))
        if loader.__module__.startswith("_pytest."):
            self.by_value.add(name)
            return
        self._add(name, os.path.abspath(file))

    def _add(self, name: str, file: str) -> None:
        """Adds the unit of a module: the outermost regular package around it, or its file alone."""
        stem, extension = os.path.basename(file).partition(".")[::2]
        parts = name.split(".")
        if stem == "__init__":
            folders = _up(os.path.dirname(file), len(parts))
        else:
            folders = [*_up(os.path.dirname(file), len(parts) - 1), ""]
        for depth, folder in enumerate(folders, 1):
            is_own = stem == "__init__" and depth == len(parts)
            if folder and (is_own or os.path.isfile(os.path.join(folder, "__init__.py"))):
                target = "/".join(parts[:depth])
                self._units.setdefault(target, _Unit(folder, target, True))
                return
        target = f"{'/'.join(parts)}.{extension}"
        self._units.setdefault(target, _Unit(file, target, False))

    def _follow(self, name: str) -> None:
        """Adds the modules an import statement names, if they are local and not loaded."""
        parts = name.split(".")
        top = parts[0]
        if is_everywhere(top):
            return
        file, folders = find_top(top)
        for depth in range(1, len(parts) + 1):
            if depth > 1:
                # Only inside namespace packages: a regular one travels whole.
                file, folders = find_inside(parts[depth - 1], folders)
            dotted = ".".join(parts[:depth])
            if dotted in self._resolved:
                return
            if file is not None:
                self._resolved.add(dotted)
                if is_local(file):
                    self._add(dotted, os.path.abspath(file))
                return

    # Their files

    def _list(self, unit: _Unit) -> Iterator[Tuple[str, str]]:
        """The files of a unit: (file here, path below the import root)."""
        if not unit.package:
            yield unit.source, unit.target
            return
        known = self._folders.get(unit.source)
        if known is None or any(folder_time(folder) != time for folder, time in known[0].items()):
            known = self._folders[unit.source] = walk(unit.source)
        for relative in known[1]:
            yield os.path.join(unit.source, relative), f"{unit.target}/{relative}"

    def _refresh(self, source: str, path: str) -> bool:
        """Reads a file again if it changed, and follows its imports; whether it changed."""
        known = self._files.get(source)
        try:
            status = os.stat(source)
            stamp = (status.st_mtime_ns, status.st_size)
            if known is not None and known.stamp == stamp:
                return False
            with open(source, "rb") as stream:
                content = stream.read()
        except OSError as error:
            raise PicklingError(
                f"{source} is a module the function may need, but cannot be read: {error.strerror}"
            ) from error
        imports = imports_of(content, path) if path.endswith(".py") else ()
        self._files[source] = _File(stamp, content, imports)
        for name in imports:
            self._follow(name)
        return True

    def _pack(self, files: Dict[str, Tuple[str, str]]) -> Archive:
        total = sum(len(self._files[source].content) for source, _ in files.values())
        if total > MAX_BYTES or len(files) > MAX_FILES:
            raise PicklingError(_too_much(self._units, total, len(files)))
        listing = []
        contents: Dict[str, bytes] = {}
        for source, path in files.values():
            content = contents[path] = self._files[source].content
            entry = {"path": path, "len": len(content)}
            local = path.replace("/", os.sep)
            if source.endswith(os.sep + local):
                entry["root"] = source[: -len(local) - 1] or os.sep
            else:
                entry["root"], entry["file"] = "", source
            listing.append(entry)
        encoded = json.dumps(listing, separators=(",", ":")).encode("utf-8", "surrogateescape")
        return Archive(encoded, b"".join(contents.values()), contents)


def _up(folder: str, count: int) -> List[str]:
    """`count` folders that lie in one another, the innermost being `folder`, outermost first."""
    found: List[str] = []
    for _ in range(count):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found[::-1]


def _too_much(units: Dict[str, _Unit], total: int, count: int) -> str:
    packages = sorted({unit.source for unit in units.values() if unit.package})
    return (
        f"the local modules the function may need are too large to send: {count} files,"
        f" {total >> 20} MiB, at most {MAX_FILES} files and {MAX_BYTES >> 20} MiB;"
        f" install them in the image, or import fewer of: {', '.join(packages) or 'them'}"
    )
