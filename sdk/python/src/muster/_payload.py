"""Payloads: functions, inputs, outputs and exceptions as the bytes of PROTOCOL.md sections 3 and 7.

This is the client's half; `_runner` is the container's. Neither does I/O other than reading the source files of
local modules. Functions, and whatever belongs to `__main__`, are cloudpickled by value; what belongs to a local
module goes by reference, and the module goes along (`_modules`). Classes come back as themselves (`_classes`),
exceptions with the remote frames in their tracebacks (`_exceptions`).
"""

from __future__ import annotations

import inspect
import json
import linecache
import pickle
import struct
import threading
import time
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import _pieces
from ._classes import Context, UnknownClass, learn
from ._errors import PicklingError, UsageTypeError
from ._exceptions import load_exception as load_exception
from ._explain import explain
from ._locate import is_local
from ._modules import Archive, Modules
from ._unpack import Unpack
from ._wire import MAX_ITEM, Item

_MAX_SOURCE = 1 << 20
"""Source of `__main__` or of a notebook's cell that goes along for tracebacks, at most, in characters."""

_SCALARS = frozenset((int, float, str, bytes, bool, type(None), complex))

_ALONE = 1 << 16
_AT_ONCE = 1 << 18
"""Bytes of an item from which it is not gathered with others; bytes that are gathered, and looked through at once."""
_GATHERED_FOR = 0.01
"""Seconds after which what was gathered goes out, be it little."""

_LARGE = 1 << 20
"""Bytes of an input after which the next one is probably large too."""

_lock = threading.RLock()
_modules = Modules()
_markers: Tuple[bytes, ...] = ()


# Functions


def check_callable(function: Callable[..., Any], unpack: bool = False) -> None:
    """Raises TypeError unless `function` can be called with exactly one positional argument.

    With `unpack` each input says what it is called with, so it need only be a callable whose value can be sent.
    """
    if type(function) is FunctionType and _takes_one(function):
        return
    if not callable(function):
        raise UsageTypeError(
            f"{_named(function)} is not callable; pass a function"
            + ("" if unpack else " of one argument")
        )
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    for kind, test in _NOT_VALUES:
        if test(function) or test(called):
            given = "*x" if unpack else "x"
            inside = f"asyncio.run(f({given}))" if "async" in kind else f"list(f({given}))"
            raise UsageTypeError(
                f"{_named(function)} is {kind}; what calling it returns cannot be sent back."
                f" Wrap it in a function that returns a value: lambda {given}: {inside}"
            )
    if unpack:
        return
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # a builtin that does not say; its own call will
    try:
        signature.bind(None)
    except TypeError:
        raise UsageTypeError(_wrong_arguments(function, signature)) from None


def _takes_one(function: FunctionType) -> bool:
    """Whether it can be called with one argument, and returns a value. `inspect` says the same, but takes long."""
    code = function.__code__
    needed = code.co_argcount - len(function.__defaults__ or ())
    takes_any = code.co_argcount > 0 or bool(code.co_flags & inspect.CO_VARARGS)
    return (
        takes_any
        and needed <= 1
        and code.co_kwonlyargcount <= len(function.__kwdefaults__ or ())
        and not code.co_flags & _NOT_A_VALUE
        # What was noted on it may say otherwise: a mark of a coroutine, a signature of another function.
        and not function.__dict__
    )


_NOT_A_VALUE = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_NOT_VALUES: Tuple[Tuple[str, Callable[[Any], bool]], ...] = (
    ("an async function", inspect.iscoroutinefunction),
    ("an async generator function", inspect.isasyncgenfunction),
    ("a generator function", inspect.isgeneratorfunction),
)


def _wrong_arguments(function: Any, signature: inspect.Signature) -> str:
    required = [p for p in signature.parameters.values() if p.default is p.empty]
    keywords = [p.name for p in required if p.kind is p.KEYWORD_ONLY]
    positional = [
        p.name for p in required if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    name = f"{_named(function)}{signature}"
    if keywords:
        given = ", ".join(f"{keyword}=..." for keyword in keywords)
        return (
            f"{name} needs the keyword argument {keywords[0]!r}, but is called with one input alone;"
            f" give it first: functools.partial(f, {given}), or, if each input is a mapping of all arguments,"
            " say unpack=True"
        )
    if len(positional) > 1:
        return (
            f"{name} needs {len(positional)} arguments, but is called with one, the input;"
            " fix the others with functools.partial, or, if each input is a tuple or a mapping of all arguments,"
            " say unpack=True"
        )
    return f"{name} takes no argument, but is called with one, the input: add a parameter, even if it is not used"


def _named(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else f"an object of type {type(value).__qualname__}"


class Dumped(NamedTuple):
    """A function on its way out."""

    body: bytes
    """FUNCTION."""
    pins: Tuple[str, ...]
    """The installed packages that it needs, if that was asked."""


def dump_function(function: Callable[..., Any], unpack: bool = False) -> bytes:
    """The body of FUNCTION: the pickled function, and the local modules it may need.

    With `unpack` its one argument will hold all that the function is called with. Raises PicklingError that names what
    stops it.
    """
    return dump_with_packages(function, unpack, None).body


def dump_with_packages(
    function: Callable[..., Any], unpack: bool, given: Optional[Iterable[str]]
) -> Dumped:
    """The same, and which installed packages the function needs, if its inputs need these modules; without, none."""
    from ._picklers import dump_with_codes

    with _lock, _by_value():
        try:
            pickled, codes, modules = dump_with_codes(Unpack(function) if unpack else function)
        except Exception as error:
            raise PicklingError(explain(function, None, error)) from error
        archive = _modules.archive(codes)
        pins: Tuple[str, ...] = ()
        if given is not None:
            modules.update(given)
            archive, pins = _follow_packages(modules, codes, archive)
        sources = [
            (name, text) for name in {code.co_filename for code in codes} if (text := _source(name))
        ]
    listing = json.dumps([{"file": name, "len": len(text)} for name, text in sources]).encode()
    header = b'{"modules":%b,"sources":%b,"function_len":%d}' % (
        archive.listing,
        listing,
        len(pickled),
    )
    parts = (struct.pack("<I", len(header)), header, archive.content)
    return Dumped(b"".join((*parts, *[text for _, text in sources], pickled)), pins)


def _follow_packages(
    modules: Set[str], codes: List[CodeType], archive: Archive
) -> Tuple[Archive, Tuple[str, ...]]:
    """What to install, and the archive with what cannot be installed from an index."""
    while True:
        foreign = _modules.foreign(modules, codes)
        if not foreign:
            return archive, ()
        from ._packages import needed

        found = needed(foreign)
        if not _modules.travel(found.modules):
            return archive, found.pins
        archive = _modules.archive(codes)


def ships(module: str) -> bool:
    """Whether this module travelled with a function of this process, or would by value."""
    with _lock:
        return _modules.ships(module)


def _source(file: str) -> bytes:
    """Source that is in no module, so that tracebacks made in a container can show its lines."""
    if any(file.endswith("/" + path) for path in _modules_files()):
        return b""
    if file[:1] != "<" and not is_local(file):
        return b""
    lines = linecache.getlines(file)
    if not lines or sum(map(len, lines)) > _MAX_SOURCE:
        return b""
    return "".join(lines).encode("utf-8", "replace")


def _modules_files() -> Iterable[str]:
    archive = _modules._archive
    return archive.files if archive else ()


@contextmanager
def _by_value() -> Iterator[None]:
    """Lets cloudpickle treat the modules that cannot be imported there as it treats `__main__`."""
    global _markers
    from cloudpickle import cloudpickle

    _modules.look()
    names = _modules.by_value - cloudpickle._PICKLE_BY_VALUE_MODULES
    _markers = (b"__main__", *map(str.encode, _modules.by_value))
    cloudpickle._PICKLE_BY_VALUE_MODULES |= names
    try:
        yield
    finally:
        cloudpickle._PICKLE_BY_VALUE_MODULES -= names


# Inputs


def dump_input(value: Any, index: int, last: int = 0) -> bytes:
    """The item of input `index`, after one of `last` bytes.

    Raises PicklingError that names the object that stops it, and the index.
    """
    return _settle(value, index, _plain(value, last))


def dump_inputs(values: Iterable[Any], first: int) -> Iterator[List[bytes]]:
    """The items of the inputs from `first` on, some at a time, a large one alone. Raises as `dump_input`."""
    some: List[Any] = []
    items: List[bytes] = []
    size = last = 0
    until = time.monotonic() + _GATHERED_FOR
    for index, value in enumerate(values, first):
        item = _plain(value, last)
        last = len(item)
        alone = not 0 < last < _ALONE
        if not alone:
            some.append(value)
            items.append(item)
            size += last
        if items and (alone or size >= _AT_ONCE or time.monotonic() > until):
            yield _settle_all(some, items, index + (not alone) - len(items))
            some, items, size = [], [], 0
            until = time.monotonic() + _GATHERED_FOR
        if alone:
            yield [_settle(value, index, item)]
    if items:
        yield _settle_all(some, items, index + 1 - len(items))


def _plain(value: Any, last: int) -> bytes:
    """What pickle alone makes of a value that comes after one of `last` bytes; empty where it refuses."""
    try:
        if last >= _LARGE:
            return b"".join(_pieces.dump(value, 5).parts)
        return pickle.dumps(value, 5)
    except Exception:
        return b""


def _settle_all(values: List[Any], items: List[bytes], first: int) -> List[bytes]:
    if not _is_marked(b"".join(items)):
        return items
    return [_settle(values[n], first + n, item) for n, item in enumerate(items)]


def _settle(value: Any, index: int, item: bytes) -> bytes:
    """The item of a value that pickle alone makes `item` of."""
    if not item or (type(value) not in _SCALARS and _is_marked(item)):
        item = _dump_by_value(value, index)
    if len(item) > MAX_ITEM:
        raise PicklingError(_too_large(index, len(item)), index=index)
    return item


def _is_marked(item: bytes) -> bool:
    """Whether it may name something that cannot be imported there."""
    return any(marker in item for marker in _markers or (b"__main__",))


def _dump_by_value(value: Any, index: int) -> bytes:
    from ._picklers import dump_with_classes

    with _lock, _by_value():
        try:
            return dump_with_classes(value)
        except Exception as error:
            raise PicklingError(explain(value, index, error), index=index) from error


def _too_large(index: int, size: int) -> str:
    return (
        f"inputs[{index}] is {size >> 20} MiB when pickled, and one input may have {MAX_ITEM >> 20} MiB;"
        " send it in parts, or send where to find it"
    )


# Outputs


def load_value(item: Item, context: Context) -> Any:
    """What the function returned. Raises PicklingError where this process cannot rebuild it."""
    try:
        return pickle.loads(item)
    except UnknownClass:
        learn(context)
    except Exception as error:
        raise _unreadable(error) from error
    try:
        return pickle.loads(item)
    except Exception as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> PicklingError:
    return PicklingError(f"an output cannot be unpickled here: {type(error).__name__}: {error}")
