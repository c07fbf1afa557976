"""Outputs from containers that are not trusted: an unpickler that holds data and runs nothing (`results="safe"`).

What a container sends is a pickle, and a pickle is a program. The function of a call is the user's own, and so by
default its outputs are unpickled like any pickle of one's own. Who runs other people's code, or fears that a
container was taken over by what it read, asks for safe results: then an output is

1. read by Python's own fast unpickler, if it is plain data: a scan of the opcodes finds nothing but values, containers
   and the memo;
2. else read by the slow one, held to the rules of `_safe_globals`: each global by its exact name, each call with its
   arguments checked, state only for instances that the rules know;
3. else an `Opaque`, which holds the bytes and says what was asked for; `.unpickle(trust=True)` is the user's decision.

Classes that this program itself sent along (its `__main__`, its local modules) are let through: made without
their `__init__`, and filled. Their own `__new__`, `__setstate__` and `__del__` run with whatever the container says;
enums and exceptions of theirs are called. Functions never are.
"""

from __future__ import annotations

import enum
import io
import pickle
import struct
import sys
from typing import Any, ClassVar, Dict, List, Tuple, Union

from ._errors import UsageValueError
from ._safe_globals import Refused, Rule, plainly_filled, rule, zone

Item = Union[bytes, memoryview]


class Opaque:
    """An output that asks for more than `results="safe"` lets through.

    `reason` says what it asked for, `pickled` holds it. `unpickle(trust=True)` unpickles it like any pickle: whoever
    made it runs code of their choice here.
    """

    def __init__(self, pickled: bytes, reason: str) -> None:
        self.pickled = pickled
        self.reason = reason

    def __repr__(self) -> str:
        return f"<muster.Opaque: {len(self.pickled)} bytes, {self.reason}>"

    def unpickle(self, *, trust: bool = False) -> Any:
        """What it is. `UsageValueError` without `trust=True`."""
        if trust is not True:
            raise UsageValueError(
                "unpickling runs whatever the container put there; say trust=True if you trust it"
            )
        return pickle.loads(self.pickled)


def load_output(item: Item) -> Any:
    """The value of an output, or an `Opaque`."""
    try:
        return loads(item)
    except Exception as error:
        reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        return Opaque(bytes(item), reason)


def loads(item: Item) -> Any:
    """The value. `Refused`, or whatever reading a broken pickle raises, where it cannot be had safely."""
    if is_plain(item):
        return pickle.loads(item)
    if isinstance(item, memoryview):
        item = bytes(item)
    return _Restricted(io.BytesIO(item)).load()


# Opcodes of plain data by the bytes that follow them; a negative number is the size of a length that follows.
_FOLLOWED: Dict[int, int] = {
    **dict.fromkeys(b"N\x88\x89]}()\x8faetsu\x90\x91\x85\x86\x87\x940", 0),
    **dict.fromkeys(b"Kh\x80", 1),
    **dict.fromkeys(b"M", 2),
    **dict.fromkeys(b"Jj", 4),
    **dict.fromkeys(b"G\x95", 8),
    **dict.fromkeys(b"\x8cC\x8a", -1),
    **dict.fromkeys(b"XB\x8b", -4),
    **dict.fromkeys(b"\x8d\x8e\x96", -8),
}
_LENGTHS = {-4: struct.Struct("<I").unpack_from, -8: struct.Struct("<Q").unpack_from}
_STOP = 0x2E


def is_plain(item: Item) -> bool:
    """Whether the pickle names no global, and puts nothing into the memo at a place of its choice."""
    at, end, followed = 0, len(item), _FOLLOWED
    while at < end:
        op = item[at]
        size = followed.get(op)
        at += 1
        if size is None:
            return op == _STOP and at == end
        if size >= 0:
            at += size
        elif at - size > end:
            return False
        elif size == -1:
            at += 1 + item[at]
        else:
            at += _LENGTHS[size](item, at)[0] - size
    return False


class _Restricted(pickle._Unpickler):
    """Python's own unpickler, in Python, with every opcode that could do something held to the rules."""

    dispatch: ClassVar[Any] = dict(pickle._Unpickler.dispatch)
    # Python's own, which has no types.
    stack: List[Any]
    metastack: List[List[Any]]
    memo: Dict[int, Any]
    read: Any
    append: Any

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._rules: Dict[int, Rule] = {id(zone): Rule(zone, zone)}
        # An id stands for an object only as long as that lives.
        self._held: List[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        found = rule(module, name) or _shipped(module, name)
        if found is None:
            raise Refused(f"it asks for {module}.{name}")
        self._know(found)
        return found.found

    def _know(self, found: Rule) -> None:
        self._rules[id(found.found)] = found
        self._held.append(found.found)

    def _rule_of(self, called: Any) -> Rule:
        found = self._rules.get(id(called))
        if found is None:
            raise Refused("it calls what is no global")
        return found

    def load_reduce(self) -> None:
        given = self.stack.pop()
        called = self.stack[-1]
        found = self._rule_of(called)
        if found.call is None:
            raise Refused(f"it calls {_named(called)}")
        if type(given) is not tuple:
            raise Refused("arguments that are no tuple")
        made = found.call(*given)
        if isinstance(made, type):
            self._know(_class_rule(made))
        self.stack[-1] = made

    def load_newobj(self) -> None:
        given = self.stack.pop()
        self.stack[-1] = self._new(self.stack[-1], given, {})

    def load_newobj_ex(self) -> None:
        keywords, given = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self._new(self.stack[-1], given, keywords)

    def _new(self, kind: Any, given: Tuple[Any, ...], keywords: Dict[str, Any]) -> Any:
        if not self._rule_of(kind).empty:
            raise Refused(f"it makes an empty {_named(kind)}")
        return kind.__new__(kind, *given, **keywords)

    def load_build(self) -> None:
        state = self.stack.pop()
        instance = self.stack[-1]
        # What has a rule itself is a class or a function, and takes no state.
        if id(instance) in self._rules or isinstance(instance, type):
            raise Refused(f"it changes {_named(instance)}")
        # A numpy dtype is of a class below the one that was named.
        bases = type(instance).__mro__
        found = next((self._rules[id(base)] for base in bases if id(base) in self._rules), None)
        if found is None or found.fill is None:
            raise Refused(f"it changes a {_named(type(instance))}")
        made = found.fill(instance, state)
        if made is not instance:
            self.stack[-1] = made
            for place, value in self.memo.items():
                if value is instance:
                    self.memo[place] = made

    def load_bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        # Read first: memory is taken for what is there, not for what is said.
        self.append(bytearray(self.read(size)))

    def _refuse(self) -> None:
        raise Refused("it uses an opcode that no pickle of ours has")


def _hold() -> None:
    """Puts the opcodes under the rules. Appending and setting items call methods: only of containers."""
    import collections

    ops = _Restricted.dispatch
    for op, step in (
        (pickle.REDUCE, _Restricted.load_reduce),
        (pickle.NEWOBJ, _Restricted.load_newobj),
        (pickle.NEWOBJ_EX, _Restricted.load_newobj_ex),
        (pickle.BUILD, _Restricted.load_build),
        (pickle.BYTEARRAY8, _Restricted.load_bytearray8),
    ):
        ops[op[0]] = step
    # The extension registry, persistent ids, instances of old and buffers beside the pickle: nothing of ours has them.
    for op in (
        pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ,
        pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    ):  # fmt: skip
        ops[op[0]] = _Restricted._refuse

    def guarded(original: Any, kinds: Tuple[type, ...], many: bool, popped: int) -> Any:
        def step(self: Any) -> None:
            target = self.metastack[-1][-1] if many else self.stack[-1 - popped]
            if not isinstance(target, kinds):
                raise Refused(f"it adds to a {_named(type(target))}")
            original(self)

        return step

    lists = (list, collections.deque)
    for op, kinds, many, popped in (
        (pickle.APPEND, lists, False, 1),
        (pickle.APPENDS, lists, True, 0),
        (pickle.SETITEM, (dict,), False, 2),
        (pickle.SETITEMS, (dict,), True, 0),
        (pickle.ADDITEMS, (set,), True, 0),
    ):
        ops[op[0]] = guarded(ops[op[0]], kinds, many, popped)


_hold()


# What this program sent along


def _shipped(module: str, name: str) -> Any:
    """The rule for a class of a module that travelled with a function of this process."""
    if (module, name) == ("muster._classes", "client_class"):
        from ._classes import client_class

        return Rule(client_class, client_class)
    from ._payload import ships

    home = sys.modules.get(module)
    if home is None or not ships(module):
        return None
    found: Any = home
    for part in name.split("."):
        found = vars(found).get(part)
        if not isinstance(found, type):
            return None
    if found.__module__ != module or found.__qualname__ != name:
        return None
    return _class_rule(found)


def _class_rule(kind: type) -> Rule:
    called = kind if issubclass(kind, (enum.Enum, Exception)) else None
    return Rule(kind, called, True, plainly_filled)


def _named(value: Any) -> str:
    return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
