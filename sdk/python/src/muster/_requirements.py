"""`packages=` of a call: what the user says about packages, as the SPEC has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, Union

from . import _hashes
from ._errors import UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

Packages = Union[str, "os.PathLike[str]", Iterable[str], None]
AUTO = "auto"

_ADVICE = (
    "say 'auto', 'all', None, a list such as ['numpy==1.26.4'], or the path of a requirements file"
)


def requested(packages: Any) -> Optional[dict[str, Any]]:
    """What SPEC says for anything but `"auto"`; None for nothing. Errors name what is wrong, and where."""
    if packages is None:
        return None
    if packages == "all":
        from ._packages import everything

        return exactly(everything())
    if isinstance(packages, (str, os.PathLike)):
        return _of_file(os.fspath(packages))
    if isinstance(packages, (bytes, Mapping)) or not isinstance(packages, Iterable):
        raise UsageTypeError(f"packages must not be {type(packages).__name__}; {_ADVICE}")
    return _listed([_hashes.Asked("packages", _parsed(one, "packages"), ()) for one in packages])


def exactly(pins: Iterable[str]) -> Optional[dict[str, Any]]:
    """SPEC's words for packages that need nothing beside themselves."""
    requirements = list(pins)
    return {"requirements": requirements, "exact": True} if requirements else None


def _listed(asked: list[_hashes.Asked]) -> Optional[dict[str, Any]]:
    return {"requirements": _hashes.lines(asked)} if asked else None


def _parsed(one: Any, where: str) -> Requirement:
    if not isinstance(one, str):
        raise UsageTypeError(f"{where}: a requirement must be a str, not {type(one).__name__}")
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(one)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0]
        raise UsageValueError(f"{where}: {one!r} is not a requirement: {why}") from None
    if requirement.url is not None:
        raise _address(one, where)
    return requirement


def _address(one: str, where: str) -> UsageValueError:
    return UsageValueError(
        f"{where}: {one!r} is an address, and hosts install from their index alone; install it here, and it"
        " travels as source, or use an image that has it"
    )


def _of_file(path: str) -> Optional[dict[str, Any]]:
    if not os.path.exists(path) and os.sep not in path and not path.endswith((".txt", ".toml")):
        raise UsageValueError(f"packages={path!r} is no file; {_ADVICE}")
    if path.endswith(".toml"):
        return _of_lock(path)
    if path.endswith(".lock"):
        raise UsageValueError(
            f"packages={path!r} is a lock file of one tool alone; export it as requirements or as pylock.toml first"
        )
    return _listed(list(_lines(path, ())))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise UsageValueError(f"packages: {path} is not text in UTF-8") from None
    except OSError as error:
        raise UsageValueError(f"packages: {path} cannot be read: {error.strerror}") from None


def _lines(path: str, inside: tuple[str, ...]) -> Iterable[_hashes.Asked]:
    """The requirements in a requirements file and in those it names."""
    if path in inside:
        raise UsageValueError(f"packages: {path} names itself")
    for number, line in _whole_lines(_read(path)):
        words = line.split(" #")[0].strip()
        if not words or words.startswith("#"):
            continue
        where = f"packages: {path}, line {number}"
        option, rest = _option(words)
        if option in ("-r", "--requirement"):
            yield from _lines(os.path.join(os.path.dirname(path), rest), (*inside, path))
        elif option in ("-e", "--editable") or words.startswith((".", "/")):
            continue  # what is installed from a folder travels as source
        elif option in ("-c", "--constraint"):
            raise UsageValueError(
                f"{where}: constraints are not followed; write these versions into the requirements, or name a file"
                " that has everything pinned, as `uv pip compile` makes it"
            )
        elif option:
            raise UsageValueError(
                f"{where}: {option} is for installers; hosts have settings of their own for that, so leave it out"
            )
        elif "://" in words.split(";")[0].split()[0]:
            raise _address(words, where)
        else:
            requirement, hashes = _hashes.split(words, where)
            yield _hashes.Asked(where, _parsed(requirement, where), hashes)


def _whole_lines(text: str) -> Iterable[tuple[int, str]]:
    """Lines with what follows a backslash, each with the number of its first."""
    whole, first = "", 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        yield first, whole + line
        whole, first = "", 0


def _option(words: str) -> tuple[str, str]:
    """The option that a line is, and its value: `-r FILE`, `-rFILE`, `--requirement FILE` or `--requirement=FILE`."""
    if words.startswith("--"):
        option, _, rest = words.replace("=", " ", 1).partition(" ")
        return option, rest.strip()
    return (words[:2], words[2:].strip()) if words.startswith("-") else ("", "")


def _of_lock(path: str) -> Optional[dict[str, Any]]:
    """`pylock.toml`: all of it, pinned, with the hashes of its files."""
    if sys.version_info < (3, 11):
        raise UsageValueError(
            f"packages: {path} needs Python 3.11 to be read; export it as requirements"
        )
    import tomllib

    try:
        lock = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageValueError(f"packages: {path} is not TOML: {error}") from None
    if "lock-version" not in lock or not isinstance(lock.get("packages"), list):
        raise UsageValueError(
            f"packages: {path} is not a pylock.toml: it has no lock-version and packages"
        )
    asked = []
    for package in lock["packages"]:
        if package.keys() & {"directory", "vcs", "archive"} or "version" not in package:
            continue  # travels as source
        marker = f" ; {package['marker']}" if package.get("marker") else ""
        where = f"packages: {path}"
        requirement = _parsed(f"{package['name']}=={package['version']}{marker}", where)
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        asked.append(_hashes.Asked(where, requirement, _hashes.of_files(files)))
    return exactly(_hashes.lines(asked))
