"""`shares=`: names of shared folders, each with where the function sees it. Pure.

PROTOCOL.md 4.1 has the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ._errors import UsageTypeError, UsageValueError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOST = 32
_LONGEST = 1024
_TAKEN = (
    "/.muster",
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
    "/tmp",
)
"""What every container has of its own."""


def checked(shares: Any) -> dict[str, str]:
    """The shares of a call, or an error that names the one that is wrong."""
    if not isinstance(shares, Mapping):
        raise UsageTypeError(
            "shares must map names of shared folders to where the function sees them, "
            f"such as {{'data': '/data'}}, not {type(shares).__name__}"
        )
    if len(shares) > _MOST:
        raise UsageValueError(f"shares: {len(shares)} are more than one call may have ({_MOST})")
    for name, target in shares.items():
        if not isinstance(name, str) or not isinstance(target, str):
            raise UsageTypeError(f"shares must map str to str, not {name!r:.60} to {target!r:.60}")
        if not _NAME.fullmatch(name):
            raise UsageValueError(
                f"shares: {name[:60]!r} cannot be the name of a share: 1 to 63 of a-z, 0-9, _ and -, "
                "the first a letter or digit; `muster hosts` lists those there are"
            )
        wrong = _wrong_with(target)
        if wrong:
            raise UsageValueError(
                f"shares: {name!r} cannot be seen at {target[:100]!r}, which {wrong}"
            )
    places = sorted(shares.values())
    for at, one in enumerate(places):
        for other in places[at + 1 :]:
            if _overlap(one, other):
                raise UsageValueError(
                    f"shares: {one!r} and {other!r} are one folder, or one is in the other"
                )
    return dict(shares)


def _wrong_with(target: str) -> str | None:
    if not target.startswith("/"):
        return "is not an absolute path, such as '/data'"
    if target == "/":
        return "is the root of the container; give a folder, such as '/data'"
    if len(target.encode()) > _LONGEST:
        return f"is longer than {_LONGEST} bytes"
    if not target.isprintable():
        return "has characters that cannot be printed"
    if any(part in ("", ".", "..") for part in target[1:].split("/")):
        return "has empty parts, '.' or '..', or ends in '/'"
    for taken in _TAKEN:
        if _overlap(target, taken):
            return f"is at, in or above {taken!r}, which the container has already"
    return None


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
