"""What a code object says about itself: the modules it imports, the file it came from."""

from __future__ import annotations

import dis
from types import CodeType
from typing import Dict, List, Tuple

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]
_EXTENDED_ARG = dis.EXTENDED_ARG
_IMPORT_FROM = dis.opmap["IMPORT_FROM"]

_known: Dict[CodeType, Tuple[str, ...]] = {}


def imported_names(code: CodeType) -> Tuple[str, ...]:
    """The dotted names that the import statements in a code object, and in those inside it, name."""
    found = _known.get(code)
    if found is None:
        if len(_known) > 10_000:
            _known.clear()
        names: List[str] = []
        _scan(code, names)
        found = _known[code] = tuple(names)
    return found


def _scan(code: CodeType, names: List[str]) -> None:
    raw = code.co_code
    extended = 0
    base = ""
    for at in range(0, len(raw), 2):
        operation, argument = raw[at], raw[at + 1] | extended
        extended = 0
        if operation == _EXTENDED_ARG:
            extended = argument << 8
        elif operation == _IMPORT_NAME:
            base = code.co_names[argument]
            names.append(base)
        elif operation == _IMPORT_FROM and base:
            names.append(f"{base}.{code.co_names[argument]}")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _scan(constant, names)
