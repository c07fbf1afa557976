"""The handle of a call: from the process that started it, or attached from anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Optional, overload

from . import _api
from ._config import Endpoint, resolve
from ._errors import CallError, CallExpired, CallFailed, UsageTypeError, UsageValueError
from ._options import Results, checked_results

if TYPE_CHECKING:
    from ._receipts import Receipt

_ENDED = ("succeeded", "failed", "cancelled")
_STREAMS = {"stdout": 1, "stderr": 2}


@dataclasses.dataclass(frozen=True)
class CallStatus:
    """A call at one moment.

    `state` is `queued`, `running`, `succeeded`, `failed` or `cancelled`. `done` inputs have ended, `failed` of them
    failed; `total` is None while inputs may still come. `waiting` says why nothing runs. `created` and `ended` are
    RFC 3339 times. `error` holds `code`, `message` and `action` where the call itself failed. `expired` says that its
    outputs and prints are kept no longer.
    """

    id: str
    name: str
    state: str
    done: int
    failed: int
    total: Optional[int]
    workers: int
    hosts: int
    waiting: Optional[str]
    image: Optional[str]
    cpu: float
    ram: float
    background: bool
    created: Optional[str]
    ended: Optional[str]
    error: Optional[dict[str, Any]]
    expired: bool

    @property
    def finished(self) -> bool:
        """Whether the call has ended."""
        return self.state in _ENDED


class Call:
    """A call by its id, wherever it was started.

        >>> import muster
        >>> call = muster.remote_parallel_map(len, ["a", "bc"], background=True)  # doctest: +SKIP
        >>> muster.Call(call.id).results()  # doctest: +SKIP
        [1, 2]

    `url` and `token` are found as for `remote_parallel_map`. Every method raises `TransportError` where the gateway
    cannot be reached, and `CallNotFound` where it does not know the call; those that read outputs or prints raise
    `CallExpired` where these are kept no longer, which `status()` still tells.
    """

    def __init__(self, id: str, url: Optional[str] = None, token: Optional[str] = None) -> None:  # noqa: A002
        if not isinstance(id, str):
            raise UsageTypeError(f"a call's id is a str, not {type(id).__name__}")
        if not id or not all(char.isalnum() or char in "-_" for char in id):
            raise UsageValueError(f"not a call's id: {id!r}")
        self.id = id
        self._endpoint: Endpoint = resolve(url, token)
        self._results: Results = "any"

    def __repr__(self) -> str:
        return f"muster.Call({self.id!r}, url={self._endpoint.url!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Call):
            return NotImplemented
        return (self.id, self._endpoint.url) == (other.id, other._endpoint.url)

    def __hash__(self) -> int:
        return hash((self.id, self._endpoint.url))

    def status(self) -> CallStatus:
        """How the call is now."""
        return _status(_api.record(self._endpoint, self.id))

    def wait(self, timeout: Optional[float] = None) -> CallStatus:
        """Wait until the call has ended, however it did; `TimeoutError` after `timeout` seconds."""
        from ._follow import Ended, follow

        # One that has expired ended before that.
        with contextlib.suppress(CallExpired):
            follow(self._endpoint, self.id, Ended(), timeout)
        return self.status()

    @overload
    def results(
        self,
        *,
        timeout: Optional[float] = None,
        return_exceptions: bool = False,
        as_completed: Literal[False] = False,
        results: Optional[Results] = None,
    ) -> list[Any]: ...

    @overload
    def results(
        self,
        *,
        timeout: Optional[float] = None,
        return_exceptions: bool = False,
        as_completed: Literal[True],
        results: Optional[Results] = None,
    ) -> Iterator[tuple[int, Any]]: ...

    def results(
        self,
        *,
        timeout: Optional[float] = None,
        return_exceptions: bool = False,
        as_completed: bool = False,
        results: Optional[Results] = None,
    ) -> Any:
        """The outputs, as often as wanted until they expire.

        A list in input order, once the call has ended; with `as_completed=True` an iterator of (index, output) as they
        are produced, which starts with those that are there. What the function raised is raised here, unless
        `return_exceptions` puts it in the outputs' places. `results="safe"` lets only data in, as for
        `remote_parallel_map`; it is so already for a call that was started so. `TimeoutError` after `timeout` seconds;
        the call goes on.
        """
        from ._collect import Listed
        from ._follow import Into, as_they_come, follow
        from ._outcome import Loader, call_error

        kind = self._results if results is None else checked_results(results)
        loader = Loader(self._endpoint, self.id, results=kind)
        if as_completed:
            return as_they_come(self._endpoint, loader, timeout, return_exceptions)
        listed = Listed(return_exceptions)
        into = Into(loader, listed)
        end = follow(self._endpoint, self.id, into, timeout)
        failure = listed.failure or call_error(end, self.id, listed.count)
        if failure is None and end.get("state") == "failed" and not return_exceptions:
            failure = CallFailed(f"call {self.id} failed", call_id=self.id)
        if failure is None:
            return listed.values(listed.count if return_exceptions else int(end.get("total") or 0))
        if isinstance(failure, CallError):
            failure.outputs = listed.returned()
        raise failure

    def receipts(self, *, timeout: Optional[float] = None) -> list[Receipt]:
        """What each input that has an output cost, in input order, once the call has ended.

        `pandas.DataFrame(call.receipts())` is a table of them. `TimeoutError` after `timeout` seconds; the call goes
        on.
        """
        from ._follow import follow
        from ._receipts import Receipts

        told = Receipts()
        follow(self._endpoint, self.id, told, timeout)
        return told.list()

    def logs(
        self, index: Optional[int] = None, stream: Optional[Literal["stdout", "stderr"]] = None
    ) -> str:
        """What the call has printed so far: all of it, or only input `index`, or only one stream.

        Lines of different inputs are whole, in the order they came. Bytes that are not UTF-8 show as U+FFFD.
        """
        from ._follow import Logged, follow

        if stream is not None and stream not in _STREAMS:
            raise UsageValueError(f"stream must be 'stdout' or 'stderr', not {stream!r}")
        status = _api.record(self._endpoint, self.id)
        logged = Logged(
            index, None if stream is None else _STREAMS[stream], int(status.get("seq") or 0)
        )
        if status.get("seq") != 0:
            follow(self._endpoint, self.id, logged, None)
        return logged.text()

    def cancel(self) -> None:
        """Stop the call: no new input starts, running ones are ended. Any number of times, also after its end."""
        _api.cancel(self._endpoint, self.id)


def calls(url: Optional[str] = None, token: Optional[str] = None) -> list[CallStatus]:
    """The calls the gateway knows."""
    return [_status(record) for record in _api.listing(resolve(url, token), "calls")]


def hosts(url: Optional[str] = None, token: Optional[str] = None) -> list[dict[str, Any]]:
    """The connected hosts, with their capacity and images, as the gateway describes them."""
    return _api.listing(resolve(url, token), "hosts")


def drain(
    host: str, undo: bool = False, url: Optional[str] = None, token: Optional[str] = None
) -> dict[str, Any]:
    """Have a host finish what it runs and take nothing new, or (`undo`) take work again; the host as it is then.

    Needs a token with the scope `admin`.
    """
    return _api.drain(resolve(url, token), host, undo)


def _status(record: dict[str, Any]) -> CallStatus:
    return CallStatus(
        id=str(record.get("id", "")),
        name=str(record.get("name") or ""),
        state=str(record.get("state", "")),
        done=int(record.get("done") or 0),
        failed=int(record.get("failed") or 0),
        total=record.get("total"),
        workers=int(record.get("workers") or 0),
        hosts=_hosts(record.get("hosts")),
        waiting=record.get("waiting"),
        image=record.get("image"),
        cpu=float(record.get("cpu") or 0),
        ram=float(record.get("ram") or 0),
        background=bool(record.get("background")),
        created=record.get("created"),
        ended=record.get("ended"),
        error=record.get("error"),
        expired=bool(record.get("expired")),
    )


def _hosts(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple)) else int(value or 0)
