"""Modules and sources that travelled with a function (PROTOCOL.md 7.1)."""

from __future__ import annotations

import json
import linecache
import os
import struct
import sys
from typing import Any, Dict, Tuple

_client_files: Dict[str, str] = {}


def unpack(body: bytes) -> bytes:
    """Puts the modules in the body of FUNCTION on `sys.path`, and returns the pickled function."""
    (size,) = struct.unpack_from("<I", body)
    header: Dict[str, Any] = json.loads(body[4 : 4 + size])
    at = 4 + size
    if header["modules"]:
        root = _make_root()
        for entry in header["modules"]:
            content = body[at : at + entry["len"]]
            at += entry["len"]
            _write(root, entry, content)
        # A new folder: no cache of the import system knows it, so none needs to be told.
        sys.path.insert(0, root)
    for entry in header.get("sources", ()):
        text = body[at : at + entry["len"]].decode("utf-8", "replace")
        at += entry["len"]
        linecache.cache[entry["file"]] = (len(text), None, text.splitlines(True), entry["file"])
    return body[at : at + header["function_len"]]


def client_file(file: str) -> str:
    """The name that a file had at the client."""
    return _client_files.get(file, file)


def _make_root() -> str:
    base = os.environ.get("TMPDIR") or "/tmp"
    name = os.path.join(base, f"muster-modules-{os.urandom(8).hex()}")
    # The folder is this process's own and goes with its container; bytecode is of no use to anybody else.
    os.mkdir(name, 0o700)
    sys.dont_write_bytecode = True
    return name


def _write(root: str, entry: Dict[str, Any], content: bytes) -> None:
    path: str = entry["path"]
    target = os.path.normpath(os.path.join(root, path))
    if not target.startswith(root + os.sep):
        raise ValueError(f"a module's path leads out of its folder: {path}")
    _make_folder(os.path.dirname(target))
    # A project may have hundreds of them, and each of these is half of what `open` costs.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)
    _client_files[target] = entry.get("file") or os.path.join(entry["root"], path)


def _make_folder(folder: str, _made: Dict[str, Tuple[()]] = {}) -> None:  # noqa: B006
    if folder not in _made:
        os.makedirs(folder, exist_ok=True)
        _made[folder] = ()
