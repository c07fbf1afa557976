"""Shared data: sent once, brought to each host once, and read by any number of inputs without a copy.

`put` pickles an object with its large buffers apart (pickle protocol 5) into one blob, named by its SHA-256 and so sent
once; a `Ref` stands for it, in a function's closure or in inputs. Where the function runs, the blob is a file that all
containers of the host map into memory, so arrays come out of `Ref.get` without a copy and lie in the memory of the
host once. They are read-only for that reason.

The blob (PROTOCOL.md 7.5): a head, a pickle, the buffers, each of them aligned.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import pickle
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Optional, TypeVar

from . import _api, _http
from ._config import Endpoint, inside, resolve
from ._errors import ApiError, DataError, TransportError
from ._http import Buffer
from ._places import MOUNTS
from ._refs import notice

T = TypeVar("T")

_MAGIC = b"MUSTERD1"
_HEAD = struct.Struct("<8sI")
_ALIGN = 64
# What is too large is refused with the first request, before much was sent.
_FIRST_BYTES = 1 << 20
_REQUEST_BYTES = 64 << 20
_TRIES = 6
_PAUSE_SECONDS = 0.3
_FETCH_SECONDS = 3600.0

# What this process has read already, where the function runs.
_read_here: dict[str, Any] = {}


class Ref(Generic[T]):
    """Stands for shared data; made by `put`. It is small wherever it is sent."""

    __slots__ = ("_endpoint", "id", "modules", "size")

    def __init__(self, blob_id: str, size: int, modules: tuple[str, ...] = ()) -> None:
        self.id = blob_id
        """SHA-256 of what was sent."""
        self.size = size
        """How many bytes that is."""
        self.modules = modules
        """What has to be there to read it; `packages="auto"` sees to it."""
        self._endpoint: Optional[Endpoint] = None

    def get(self) -> T:
        """The object. In a call's function: without a copy, the same object each time, its arrays read-only.

        At the client it is fetched each time. `DataError` if it has expired.
        """
        if not inside():
            return _unpack(memoryview(_fetch(self._endpoint or resolve(), self)))  # type: ignore[no-any-return]
        if self.id not in _read_here:
            _read_here[self.id] = _unpack(_mapped(self))
        return _read_here[self.id]  # type: ignore[no-any-return]

    def delete(self) -> None:
        """Remove the data from the gateway; an error while a call uses it. Nobody needs to: it expires."""
        _api.blob(self._endpoint or resolve(), "DELETE", self.id)

    def __reduce__(self) -> Any:
        notice(self.id)
        return Ref, (self.id, self.size, self.modules)

    def __repr__(self) -> str:
        return f"<muster.Ref {self.id[:8]} of {self.size:,} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def put(obj: T, *, url: Optional[str] = None, token: Optional[str] = None) -> Ref[T]:
    """Send an object once, for any number of inputs and calls to read.

        >>> table = muster.put(big_table)  # doctest: +SKIP
        >>> remote_parallel_map(lambda day: table.get()[day].sum(), range(365))  # doctest: +SKIP

    What is there already is not sent again, and an upload that breaks off goes on where it was. Data goes from the
    gateway some days after its last use. `DataError` where it is too large, or there is no room.
    """
    endpoint = resolve(url, token)
    parts, modules = _pack(obj)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    ref: Ref[T] = Ref(digest.hexdigest(), sum(map(len, parts)), modules)
    ref._endpoint = endpoint
    _send(endpoint, ref, parts)
    return ref


def modules_of(value: Any) -> tuple[str, ...]:
    """Where a value's class comes from; for a `Ref`, what it stands for."""
    return value.modules if isinstance(value, Ref) else (type(value).__module__,)


def _pack(obj: Any) -> tuple[list[memoryview], tuple[str, ...]]:
    """The parts of a blob, the large ones the object's own memory; and the modules that its pickle names."""
    from ._picklers import dump_with_buffers

    pickled, buffers, modules = dump_with_buffers(obj)
    raws = [memoryview(pickled), *(buffer.raw().cast("B") for buffer in buffers)]
    head = json.dumps({"lengths": [len(raw) for raw in raws]}).encode()
    parts = [memoryview(_HEAD.pack(_MAGIC, len(head)) + head)]
    at = len(parts[0])
    for raw in raws:
        padding = -at % _ALIGN
        parts += [memoryview(bytes(padding)), raw]
        at += padding + len(raw)
    return [part for part in parts if len(part)], tuple(sorted(modules))


def _unpack(blob: memoryview) -> Any:
    magic, length = _HEAD.unpack_from(blob)
    if magic != _MAGIC:
        raise DataError("this shared data was not made by muster.put", code="bad_data")
    at = _HEAD.size + length
    raws = []
    for length in json.loads(bytes(blob[_HEAD.size : at]))["lengths"]:
        at += -at % _ALIGN
        raws.append(blob[at : at + length].toreadonly())
        at += length
    return pickle.loads(raws[0], buffers=raws[1:])


# At the client.


def _send(endpoint: Endpoint, ref: Ref[Any], parts: Sequence[memoryview]) -> None:
    """Upload what is not there; a connection that breaks is no reason to give up."""
    failures = 0
    have: Optional[int] = None
    while True:
        try:
            if have is None:
                have = _there(endpoint, ref)
            if have == ref.size:
                return
            step = _FIRST_BYTES if have == 0 else _REQUEST_BYTES
            end = min(have + step, ref.size)
            have = _api.put_blob(endpoint, ref.id, have, ref.size, list(_slice(parts, have, end)))
            failures = 0
        except (TransportError, ApiError) as error:
            passing = isinstance(error, TransportError) or error.code in _PASSING
            failures += 1
            if not passing or failures == _TRIES:
                raise
            time.sleep(_PAUSE_SECONDS * failures)
            have = None


_PASSING = frozenset({"blob_busy", "blob_offset", "slow_request", "full", "stopping"})


def _there(endpoint: Endpoint, ref: Ref[Any]) -> int:
    whole, have = _api.look_at_blob(endpoint, ref.id)
    return ref.size if whole else have


def _slice(parts: Sequence[memoryview], start: int, end: int) -> Iterator[Buffer]:
    at = 0
    for part in parts:
        low, high = max(start - at, 0), min(end - at, len(part))
        if low < high:
            yield part[low:high]
        at += len(part)


def _fetch(endpoint: Endpoint, ref: Ref[Any]) -> bytearray:
    room = bytearray(ref.size)
    view = memoryview(room)
    answer = _api.read_blob(endpoint, ref.id)
    try:
        at = 0
        while at < ref.size:
            count = answer.read_into(view[at:], _http.REQUEST_SECONDS)
            if count == 0:
                piece = answer.read(_http.REQUEST_SECONDS)
                count = None if piece is None else len(piece)
                if piece:
                    view[at : at + len(piece)] = piece
                elif piece is not None:
                    raise ConnectionResetError("the gateway found the data damaged")
            if count is None:
                raise TimeoutError("the gateway stopped within shared data")
            at += count
    except OSError as error:
        answer.connection.close()
        raise TransportError(f"shared data could not be read: {error}") from error
    except BaseException:
        answer.connection.close()
        raise
    answer.connection.release()
    if hashlib.sha256(room).hexdigest() != ref.id:
        raise DataError("shared data came damaged; put it again", code="bad_data")
    return room


# Where the function runs.


def _mapped(ref: Ref[Any]) -> memoryview:
    """The blob's file, which the agent has mounted, or does now where nobody knew before that it would be wanted."""
    path = os.path.join(MOUNTS, f"data-{ref.id}")
    with contextlib.suppress(FileNotFoundError):
        return _map(path)
    _api.fetch_data(resolve(), ref.id, _FETCH_SECONDS)
    return _map(path)


def _map(path: str) -> memoryview:
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
