"""Items of OUTPUTS as values and exceptions."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

from . import _api, _payload
from ._config import Endpoint
from ._errors import (
    CallFailed,
    Cancelled,
    Damaged,
    HostLost,
    InputError,
    InputTimeout,
    MusterError,
    OutOfMemory,
    PackageError,
    PicklingError,
    RemoteError,
    ValueTooLarge,
    WorkerDied,
)
from ._options import Results
from ._wire import Item, Outputs

VALUE, EXCEPTION, FAILURE = 0, 1, 2
_PACKAGES = ("package_unavailable", "package_unverified", "packages_failed")

# Raised here under their own names they would end the program, or a loop, without a word.
_SILENT = (SystemExit, KeyboardInterrupt, GeneratorExit)


class Loader:
    """Rebuilds the outputs of one call; the context that `_payload` asks for."""

    def __init__(
        self,
        endpoint: Endpoint,
        call_id: str,
        function: bytes | None = None,
        results: Results = "any",
    ) -> None:
        self.call_id = call_id
        self._safe = results == "safe"
        self._endpoint = endpoint
        self._function = function

    def fetch_function(self) -> bytes:
        """The bytes of the call's FUNCTION, from the gateway where this process did not make them."""
        if self._function is None:
            self._function = _api.function(self._endpoint, self.call_id)
        return self._function

    def load(self, first: int, attempt: int, outputs: Outputs) -> tuple[list[Any], list[int]]:
        """What the items are, exceptions as objects; and which positions hold failures."""
        numbers = outputs.numbers()
        if numbers is not None:
            return numbers, []
        if self._safe:
            return self._held(first, attempt, outputs)
        try:
            # Nearly always all are values that unpickle at once.
            if outputs.all_values:
                return list(map(pickle.loads, outputs.items())), []
        except Exception:
            pass  # found again below, with its index
        return self._one_by_one(first, attempt, outputs)

    def _held(self, first: int, attempt: int, outputs: Outputs) -> tuple[list[Any], list[int]]:
        from ._safe import load_output

        if outputs.all_values:
            return list(map(load_output, outputs.items())), []
        return self._one_by_one(first, attempt, outputs)

    def _one_by_one(
        self, first: int, attempt: int, outputs: Outputs
    ) -> tuple[list[Any], list[int]]:
        values: list[Any] = []
        failed = []
        for position, (status, item) in enumerate(outputs):
            value, is_value = self._one(first + position, attempt, status, item)
            values.append(value)
            if not is_value:
                failed.append(position)
        return values, failed

    def _one(self, index: int, attempt: int, status: int, item: Item) -> tuple[Any, bool]:
        if status == VALUE:
            if self._safe:
                from ._safe import load_output

                return load_output(item), True
            try:
                return _payload.load_value(item, self), True
            except Exception as error:
                return _unreadable(index, error), False
        if status == EXCEPTION:
            return self._exception(index, attempt, item), False
        return failure(index, attempt, json.loads(bytes(item)), self.call_id), False

    def _exception(self, index: int, attempt: int, item: Item) -> BaseException:
        try:
            loads: Callable[[Any], Any] = pickle.loads
            if self._safe:
                from . import _safe

                loads = _safe.loads
            found: BaseException = _payload.load_exception(item, self, index, loads=loads)
        except Exception as error:
            return _unreadable(index, error)
        if not isinstance(found, _SILENT):
            return found
        stand_in = RemoteError(
            str(found),
            type_name=type(found).__name__,
            traceback_text=str(getattr(found, "traceback_text", "")),
            index=index,
            call_id=self.call_id,
            attempt=attempt,
        )
        stand_in.__traceback__ = found.__traceback__
        return stand_in


def failure(index: int, attempt: int, said: dict[str, Any], call_id: str) -> InputError:
    """The exception for a failure item."""
    code = said.get("code")
    host = said.get("host")
    where = f"input {index}" + (f" on host {host}" if host else "")
    message = f"{where}: {said.get('message') or code}"
    common: dict[str, Any] = {"index": index, "host": host, "call_id": call_id, "attempt": attempt}
    if code == "out_of_memory":
        limit, peak = said.get("limit_bytes"), said.get("peak_bytes")
        facts = f"limit {_size(limit)}" + (f", peak {_size(peak)}" if peak else "")
        message = f"{where} took more memory than func_ram allows ({facts}); raise func_ram"
        return OutOfMemory(message, limit_bytes=limit, peak_bytes=peak, **common)
    if code in ("worker_died", "poison"):
        exit_code, signal = said.get("exit_code"), said.get("signal")
        if exit_code is not None:
            message = f"{where}: its worker exited with code {exit_code}"
        elif signal is not None:
            message = f"{where}: its worker was ended by {_signal_name(signal)}"
        if code == "poison":
            message += " (it ended its worker again and again)"
        return WorkerDied(message, exit_code=exit_code, signal=signal, **common)
    if code == "timeout":
        timeout_ms = said.get("timeout_ms")
        seconds = None if timeout_ms is None else timeout_ms / 1000
        if seconds is not None:
            message = f"{where} ran longer than timeout={seconds:g} seconds"
        return InputTimeout(message, timeout_seconds=seconds, **common)
    if code == "too_large":
        return ValueTooLarge(
            message,
            limit_bytes=said.get("limit_bytes"),
            size_bytes=said.get("size_bytes"),
            **common,
        )
    if code == "lost":
        return HostLost(message, **common)
    if code == "damaged":
        return Damaged(message, **common)
    return InputError(message, **common)


def call_error(end: dict[str, Any], call_id: str, came: int | None = None) -> MusterError | None:
    """What went wrong with the call itself by its `end` event; None if nothing did, or only an input.

    `came` is how many outputs there were: fewer than inputs have ended are those that the gateway's disk lost.
    """
    if end.get("state") == "cancelled":
        return Cancelled(f"call {call_id} was cancelled", call_id=call_id)
    lost = 0 if came is None else int(end.get("done") or 0) - came
    if end.get("state") == "succeeded" and lost > 0:
        action = "Submit the call again, and have the disk of the gateway looked at."
        return CallFailed(
            f"{lost} outputs of call {call_id} were damaged on the gateway's disk. {action}",
            code="damaged",
            action=action,
            call_id=call_id,
        )
    error = end.get("error")
    if not error or error.get("code") == "input_failed":
        return None
    code, action = str(error.get("code", "")), str(error.get("action") or "")
    text = str(error.get("message") or code).rstrip(".")
    message = f"call {call_id} failed: {text}" + (f". {action}" if action else "")
    kind = PackageError if code in _PACKAGES else CallFailed
    return kind(message, code=code, action=action, call_id=call_id)


def missing_events(event: dict[str, Any]) -> str | None:
    """What an event says is missing before it, as a line for people; None if nothing is."""
    if event.get("type") == "dropped":
        return f"muster: {event.get('bytes')} bytes of prints are missing: there were more than the gateway keeps"
    if event.get("type") == "damaged":
        return f"muster: {event.get('events')} events are missing, prints perhaps: the gateway's disk damaged them"
    return None


def _unreadable(index: int, error: Exception) -> MusterError:
    if isinstance(error, MusterError):
        return error
    made = PicklingError(
        f"the output of input {index} cannot be rebuilt here: {type(error).__name__}: {error}",
        index=index,
    )
    made.__cause__ = error
    return made


def _size(number: Any) -> str:
    if not number:
        return "unknown"
    return f"{number / (1 << 30):.2f} GB" if number >= 1 << 27 else f"{number / (1 << 20):.1f} MB"


def _signal_name(number: int) -> str:
    import signal

    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
