"""Where modules are: whose file one is, where an import would find it, which files of a package travel."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import sysconfig
from typing import Dict, List, Optional, Tuple

from ._places import PACKAGES

MAX_FILES = 20_000
"""How many files may travel with one function."""
MAX_DATA_FILE = 1 << 20
"""Data files of packages above this size stay behind, in bytes."""

_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)
_SKIPPED_FOLDERS = frozenset(("__pycache__", "node_modules"))


def _library_folders() -> Tuple[str, ...]:
    folders = {os.path.dirname(os.__file__)}
    paths = sysconfig.get_paths()
    folders.update(paths[key] for key in ("stdlib", "platstdlib") if key in paths)
    folders.update({os.path.realpath(folder) for folder in folders})
    return tuple(folder + os.sep for folder in folders)


_LIBRARY = _library_folders()
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def is_local(file: str) -> bool:
    """Whether a module's file is the user's own rather than an installed one."""
    if not os.path.isabs(file):
        file = os.path.abspath(file)
    if file.startswith((*_LIBRARY, PACKAGES + os.sep)):
        return False
    return _INSTALLED.isdisjoint(file.split(os.sep))


def find_top(name: str) -> Tuple[Optional[str], List[str]]:
    """The file of a top-level module, or the folders of a namespace package, found without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # finders are anybody's code
        return None, []
    if spec is None:
        return None, []
    if spec.origin is not None and os.path.isfile(spec.origin):
        return spec.origin, []
    return None, list(spec.submodule_search_locations or ())


def find_inside(name: str, folders: List[str]) -> Tuple[Optional[str], List[str]]:
    """The same for a module in a namespace package."""
    inside = [os.path.join(folder, name) for folder in folders]
    for path in inside:
        for end in (f"{os.sep}__init__.py", ".py", *_EXTENSIONS):
            if os.path.isfile(path + end):
                return path + end, []
    return None, [path for path in inside if os.path.isdir(path)]


def folder_time(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def walk(root: str) -> Tuple[Dict[str, int], List[str]]:
    """The folders below a package with their times, and the files in them that travel."""
    times: Dict[str, int] = {}
    found: List[str] = []
    for folder, folders, files in os.walk(root):
        times[folder] = folder_time(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS
            and not name.startswith(".")
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        below = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(files):
            if _travels(os.path.join(folder, name), name):
                found.append(name if below == "." else f"{below}/{name}")
        if len(found) > MAX_FILES:
            break
    return times, found


def _travels(file: str, name: str) -> bool:
    if name.startswith(".") or name.endswith((".pyc", ".pyo")):
        return False
    if name.endswith((".py", *_EXTENSIONS)):
        return os.path.isfile(file)
    try:
        return os.path.isfile(file) and os.stat(file).st_size <= MAX_DATA_FILE
    except OSError:
        return False


def imports_of(content: bytes, path: str) -> Tuple[str, ...]:
    """The modules that the import statements anywhere in a file name."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    package = path.split("/")[:-1]
    names: Dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            for alias in node.names:
                names[".".join([*base, alias.name])] = None
    return tuple(names)
