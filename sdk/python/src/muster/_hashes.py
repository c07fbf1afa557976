"""Hashes of requirements: which files a package may come as.

The rules are pip's, for which `uv pip compile --generate-hashes` and `pip-compile` write: where one requirement has
hashes, all have, and each names one version. Hosts then install nothing else than these files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import UsageValueError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_OPTION = re.compile(r"\s+--hash[=\s]\s*")
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
_FORM = re.compile(r"(sha\d+):([0-9a-f]+)")


class Asked(NamedTuple):
    """One requirement as somebody has written it."""

    where: str
    requirement: Requirement
    hashes: tuple[str, ...]


def split(words: str, where: str) -> tuple[str, tuple[str, ...]]:
    """A line of a requirements file: the requirement, and its hashes."""
    requirement, *hashes = _OPTION.split(words)
    for one in hashes:
        form = _FORM.fullmatch(one.strip())
        if form is None or len(form[2]) != _DIGITS.get(form[1]):
            raise UsageValueError(
                f"{where}: {one.strip()!r} is no hash that can be checked: sha256, sha384 or sha512, a colon, and all"
                " of its hexadecimal digits"
            )
    return requirement, tuple(sorted({one.strip() for one in hashes}))


def of_files(files: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The hashes of a package's files, as `pylock.toml` has them."""
    return tuple(
        sorted(
            f"{kind}:{digest}"
            for file in files
            for kind, digest in file.get("hashes", {}).items()
            if kind in _DIGITS
        )
    )


def lines(asked: Sequence[Asked]) -> list[str]:
    """The requirements as hosts get them; without hashes, those that name no version are pinned as installed here."""
    if any(one.hashes for one in asked):
        return [_hashed(one) for one in asked]
    from ._packages import pinned

    return [pinned(one.requirement) for one in asked]


def _hashed(one: Asked) -> str:
    said = str(one.requirement)
    if not one.hashes:
        raise UsageValueError(
            f"{one.where}: {said!r} has no hash, and others have; give hashes to all, as"
            " `uv pip compile --generate-hashes` does, or to none"
        )
    versions = list(one.requirement.specifier)
    if len(versions) != 1 or versions[0].operator not in ("==", "===") or "*" in str(versions[0]):
        raise UsageValueError(
            f"{one.where}: {said!r} has hashes, so it must name one version: `==` and that version"
        )
    return " ".join((said, *(f"--hash={digest}" for digest in one.hashes)))
