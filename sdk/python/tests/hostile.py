"""Pickles that do something, made by hand: each must be refused by `results="safe"`.

`CORPUS` maps what each tries to its bytes. One that is let through would leave a mark: it calls, as directly as it can,
`mark` of this module, or makes the file `MARK`.
"""

from __future__ import annotations

import builtins
import codecs
import collections
import functools
import importlib
import operator
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

MARK = Path("/tmp/muster-hostile-pickle-was-here")
_TOUCH = f"touch {MARK}"
_CODE = f"open({str(MARK)!r}, 'w').close()"


class Reduces:
    """Pickles as a call of `what` with `arguments`, and more of what `__reduce__` may return."""

    def __init__(self, what: Any, *arguments: Any, more: tuple[Any, ...] = ()) -> None:
        self.reduced = (what, arguments, *more)

    def __reduce__(self) -> Any:
        return self.reduced


def _text(value: str) -> bytes:
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    """Opcodes that put a global on the stack."""
    return _text(module) + _text(name) + b"\x93"


def program(*parts: bytes) -> bytes:
    return b"\x80\x05" + b"".join(parts) + b"."


def called(module: str, name: str, *arguments: bytes) -> bytes:
    """Opcodes of a call."""
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


_GETATTR_SYSTEM = called("builtins", "getattr", named("os", "path"), _text("os"))

CORPUS: dict[str, bytes] = {
    name: pickle.dumps(value, 5)
    for name, value in {
        "os.system": Reduces(os.system, _TOUCH),
        "subprocess.Popen": Reduces(subprocess.Popen, ["touch", str(MARK)]),
        "subprocess.run": Reduces(subprocess.run, ["touch", str(MARK)]),
        "builtins.eval": Reduces(eval, _CODE),
        "builtins.exec": Reduces(exec, _CODE),
        "builtins.compile": Reduces(compile, _CODE, "x", "exec"),
        "builtins.__import__": Reduces(builtins.__import__, "os"),
        "builtins.open": Reduces(open, str(MARK), "w"),
        "builtins.getattr": Reduces(getattr, [], "append"),
        "builtins.setattr": Reduces(setattr, int, "x", 1),
        "builtins.map": Reduces(map, len, ["x"]),
        "builtins.type": Reduces(type, "X", (), {}),
        "builtins.input": Reduces(input),
        "builtins.bytearray of a size": Reduces(bytearray, 1 << 20),
        "builtins.list of a range": Reduces(list, range(10)),
        "functools.partial": Reduces(functools.partial, os.system, _TOUCH),
        "functools.reduce": Reduces(functools.reduce, operator.add, [1, 2]),
        "operator.attrgetter": Reduces(operator.attrgetter, "system"),
        "operator.methodcaller": Reduces(operator.methodcaller, "system", _TOUCH),
        "operator.itemgetter": Reduces(operator.itemgetter, 0),
        "codecs.encode": Reduces(codecs.encode, b"x", "base64"),
        "codecs.open": Reduces(codecs.open, str(MARK), "w"),
        "importlib.import_module": Reduces(importlib.import_module, "os"),
        "sys.exit": Reduces(sys.exit, 1),
        "os._exit": Reduces(os._exit, 1),
        "pickle.loads, nested": Reduces(pickle.loads, pickle.dumps(Reduces(os.system, _TOUCH))),
        "reduce with a state": Reduces(collections.OrderedDict, more=({"__class__": 1},)),
        "inside a list": [1, {"a": (Reduces(os.system, _TOUCH),)}],
        "as a key": {Reduces(os.system, _TOUCH): 1},
        "a function of this module": Reduces(_text, "x"),
        "a class that was not sent": Reduces(Reduces, 1),
        "defaultdict of a function": collections.defaultdict(input),
        "a module's function as a value": os.system,
        "Fraction that takes for ever": Reduces(__import__("fractions").Fraction, "1e999999999"),
        "a Counter of a range": Reduces(collections.Counter, range(10)),
    }.items()
}
CORPUS.update(
    {
        "os.system by its other name": program(called("posix", "system", _text(_TOUCH))),
        "a name with dots": program(called("zoneinfo", "ZoneInfo.from_file", _text("x"))),
        "through a listed module": program(called("decimal", "_sys.modules.get", _text("os"))),
        "through a listed class": program(called("datetime", "datetime.__reduce__.__self__", b"N")),
        "getattr of an import": program(_GETATTR_SYSTEM),
        "GLOBAL of old": b"cos\nsystem\n(S'" + _TOUCH.encode() + b"'\ntR.",
        "INST of old": b"(S'" + _TOUCH.encode() + b"'\nios\nsystem\n.",
        "OBJ of old": b"(" + named("os", "system") + _text(_TOUCH) + b"o.",
        "a call of what a call gave": program(
            called("builtins", "getattr", named("zoneinfo", "ZoneInfo"), _text("clear_cache")),
            b")R",
        ),
        "a call of a value": program(named("builtins", "list"), b")R"),
        "a call of a text": program(_text("os.system"), b")R"),
        "arguments that are no tuple": program(named("builtins", "complex"), b"]R"),
        "an extension code": b"\x80\x05\x82\x01.",
        "an extension code of four bytes": b"\x80\x05\x84\x01\x00\x00\x00.",
        "a persistent id": b"\x80\x05" + _text("x") + b"Q.",
        "a persistent id of old": b"Px\n.",
        "a buffer beside it": b"\x80\x05\x97.",
        "a memo place far away": b"\x80\x05Nr\xff\xff\xff\xff0.",
        "a memo place in digits": b"\x80\x05Np99999999999\n0.",
        "a memo place that is not there": b"\x80\x05j\xff\xff\xff\x7f.",
        "a bytearray larger than all": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "bytes larger than all": b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "a frame larger than all": b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        "an empty one": b"",
        "one that is cut": b"\x80\x05]",
        "a stack that is empty": b"\x80\x050.",
        "an attribute of a class": program(
            named("uuid", "UUID"), b"N}" + _text("x") + b"K\x01s\x86b"
        ),
        "an attribute of a function": program(
            named("array", "_array_reconstructor"), b"}" + _text("__code__") + b"Nsb"
        ),
        "adding to what is no list": program(called("types", "SimpleNamespace"), b"K\x01a"),
        "setting items of what is no dict": program(
            called("types", "SimpleNamespace"), b"K\x01K\x02s"
        ),
        "a class made empty": program(named("builtins", "object"), b")\x81"),
        "an exception that ends the program": program(called("builtins", "SystemExit", b"K\x01")),
        "numpy.load": program(called("numpy", "load", _text("/etc/hosts"))),
        "numpy.fromfile": program(called("numpy", "fromfile", _text("/etc/hosts"))),
        "numpy.lib.format": program(called("numpy.lib.format", "open_memmap", _text("/etc/hosts"))),
        "numpy.testing": program(
            called("numpy.testing._private.utils", "runstring", _text("x"), b"}")
        ),
        "numpy.f2py": program(called("numpy.f2py.crackfortran", "myeval", _text(_CODE))),
        "an array of pointers": program(
            called("numpy", "dtype", _text("O8"), b"\x89", b"\x88"),
            b"(K\x03" + _text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        ),
        "an array of objects of bytes": program(
            called(
                "numpy._core.numeric",
                "_frombuffer",
                b"C\x08AAAAAAAA",
                called("numpy", "dtype", _text("O8"), b"\x89", b"\x88"),
                b"K\x01\x85",
                _text("C"),
            )
        ),
        "pandas.read_pickle": program(called("pandas", "read_pickle", _text("/etc/hosts"))),
        "pandas.eval": program(called("pandas", "eval", _text("1"))),
        "pandas.DataFrame.query": program(called("pandas", "DataFrame.query", _text("1"))),
        "an arrow array past its end": program(
            called(
                "pyarrow.lib",
                "_restore_array",
                b"("
                + called("pyarrow.lib", "type_for_alias", _text("int64"))
                + b"J\xff\xff\xff\x7fK\x00K\x00](N"
                + called("pyarrow.lib", "py_buffer", b"C\x08AAAAAAAA")
                + b"e]Nt",
            )
        ),
        "an arrow file": program(called("pyarrow.lib", "memory_map", _text("/etc/hosts"))),
    }
)
