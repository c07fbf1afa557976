"""The error tree.

    MusterError
    ├── UsageError                   an argument is wrong; nothing was sent
    │   ├── UsageTypeError           … also a TypeError
    │   └── UsageValueError          … also a ValueError
    ├── NotInCall                    muster.current() outside of a call; also a RuntimeError
    ├── PicklingError                what cannot be pickled; also a pickle.PicklingError
    ├── TransportError               no gateway there, or the connection was lost for good
    ├── ApiError                     the gateway refused a request: `code`, `status`, `detail`, `action`, `call_id`
    │   ├── AuthError                missing, wrong or too weak token
    │   ├── NoHosts                  no host is connected, or none is large enough for one worker
    │   ├── ImageError               unknown image, or no image with this Python version
    │   ├── CallNotFound             no such call
    │   │   └── CallExpired          its outputs and prints are kept no longer; its `status()` is
    │   ├── NestedError              a function made a call too deep, or too many at once
    │   ├── SecretError              no such secret, or as many as there may be
    │   ├── ShareError               no host has the share, or the token may not use it
    │   └── DataError                shared data is too large, has no room, has expired, or is damaged
    └── CallError                    a call failed: `call_id`, `.outputs`
        ├── CallFailed               the call as a whole: `code`, `action`
        │   └── PackageError         a package that it needs cannot be had
        ├── Cancelled                somebody cancelled it
        └── InputError               one input failed: `index`, `host`, `attempt`
            ├── WorkerDied           its worker ended: `exit_code` or `signal`
            ├── OutOfMemory          it took more than func_ram: `limit_bytes`, `peak_bytes`
            ├── InputTimeout         it ran longer than `timeout_seconds`
            ├── ValueTooLarge        its output is larger than `limit_bytes`
            ├── Damaged              the gateway's disk changed it, or its output
            ├── HostLost             the host or its container engine failed, over and over
            └── RemoteError          it raised what cannot be rebuilt here: `type_name`, `message`, ...

What the user's function raises comes out as its own type, not as one of these; `index`, `call_id` and `host` are set
on it too.

Every class here takes its message first and the rest by keyword, each with a default: so all of them can be pickled.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = [
    "ApiError",
    "AuthError",
    "CallError",
    "CallExpired",
    "CallFailed",
    "CallNotFound",
    "Cancelled",
    "Damaged",
    "DataError",
    "HostLost",
    "ImageError",
    "InputError",
    "InputTimeout",
    "MusterError",
    "NestedError",
    "NoHosts",
    "NotInCall",
    "OutOfMemory",
    "PackageError",
    "PicklingError",
    "RemoteError",
    "SecretError",
    "ShareError",
    "TransportError",
    "UsageError",
    "UsageTypeError",
    "UsageValueError",
    "ValueTooLarge",
    "WorkerDied",
]


class MusterError(Exception):
    """Everything Muster itself raises."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class UsageError(MusterError):
    """An argument is wrong; nothing was sent."""


class UsageTypeError(UsageError, TypeError):
    """An argument has the wrong type."""


class UsageValueError(UsageError, ValueError):
    """An argument has the wrong value."""


class NotInCall(MusterError, RuntimeError):
    """`muster.current()` was called where no input runs."""


class PicklingError(MusterError, pickle.PicklingError):
    """A function, input or output cannot be pickled; `index` is the input's where it is one."""

    def __init__(self, message: str = "", *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class TransportError(MusterError):
    """No gateway answers there, or the connection was lost for good."""


class ApiError(MusterError):
    """The gateway refused a request."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        status: int = 0,
        detail: str = "",
        action: str = "",
        call_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.detail = detail
        self.action = action
        self.call_id = call_id


class AuthError(ApiError):
    """The token is missing, wrong, or does not allow this."""


class NoHosts(ApiError):
    """No host is connected, or none has what one worker asks for: its size, its runtime."""


class ImageError(ApiError):
    """No such image on any host, or none with the Python version the pickles need."""


class CallNotFound(ApiError):
    """There is no such call."""


class CallExpired(CallNotFound):
    """What the call gave and printed is kept no longer; its `status()` still says how it ended."""


class DataError(ApiError):
    """Shared data is too large, has no room, has expired, or is not what it should be; `code` says which."""


class NestedError(ApiError):
    """A function made a call that is nested too deep, or more calls at once than it may; `code` says which."""


class SecretError(ApiError):
    """There is no such secret of this owner, or no room for another; `code` says which."""


class ShareError(ApiError):
    """No host has a shared folder that the call names, or the token may not use it; `code` says which."""


class CallError(MusterError):
    """A call failed. `outputs` maps the index of each input that had returned to its value."""

    outputs: dict[int, Any]

    def __init__(self, message: str = "", *, call_id: str | None = None) -> None:
        super().__init__(message)
        self.call_id = call_id
        self.outputs = {}


class CallFailed(CallError):
    """The call as a whole failed, not one of its inputs; `code` and `action` are the gateway's."""

    def __init__(
        self, message: str = "", *, code: str = "", action: str = "", call_id: str | None = None
    ) -> None:
        super().__init__(message, call_id=call_id)
        self.code = code
        self.action = action


class PackageError(CallFailed):
    """A package that the function needs cannot be had, or no host could install it."""


class Cancelled(CallError):
    """The call was cancelled, here or elsewhere."""


class InputError(CallError):
    """One input failed, in a way that is not an exception of the function itself."""

    def __init__(
        self,
        message: str = "",
        *,
        index: int | None = None,
        host: str | None = None,
        call_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message, call_id=call_id)
        self.index = index
        self.host = host
        self.attempt = attempt


class WorkerDied(InputError):
    """The worker ended while it ran this input: it exited with `exit_code`, or `signal` ended it."""

    def __init__(
        self,
        message: str = "",
        *,
        exit_code: int | None = None,
        signal: int | None = None,
        index: int | None = None,
        host: str | None = None,
        call_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message, index=index, host=host, call_id=call_id, attempt=attempt)
        self.exit_code = exit_code
        self.signal = signal


class OutOfMemory(InputError):
    """The input took more than `func_ram`: `limit_bytes` is what it had, `peak_bytes` what it reached."""

    def __init__(
        self,
        message: str = "",
        *,
        limit_bytes: int | None = None,
        peak_bytes: int | None = None,
        index: int | None = None,
        host: str | None = None,
        call_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message, index=index, host=host, call_id=call_id, attempt=attempt)
        self.limit_bytes = limit_bytes
        self.peak_bytes = peak_bytes


class InputTimeout(InputError):
    """The input ran longer than `timeout`, in seconds."""

    def __init__(
        self,
        message: str = "",
        *,
        timeout_seconds: float | None = None,
        index: int | None = None,
        host: str | None = None,
        call_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message, index=index, host=host, call_id=call_id, attempt=attempt)
        self.timeout_seconds = timeout_seconds


class ValueTooLarge(InputError):
    """An input or output is larger than one item may be; both sizes in bytes."""

    def __init__(
        self,
        message: str = "",
        *,
        limit_bytes: int | None = None,
        size_bytes: int | None = None,
        index: int | None = None,
        host: str | None = None,
        call_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message, index=index, host=host, call_id=call_id, attempt=attempt)
        self.limit_bytes = limit_bytes
        self.size_bytes = size_bytes


class Damaged(InputError):
    """The gateway's disk changed the input before it ran, or its output after it was kept."""


class HostLost(InputError):
    """Hosts, agents or container engines failed under this input, over and over."""


class RemoteError(InputError):
    """The function raised something that cannot be rebuilt here.

    `type_name` is its class (`SystemExit` and `KeyboardInterrupt` arrive so, too), `message` its text, and
    `traceback_text` the traceback as Python would have printed it there.
    """

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        traceback_text: str = "",
        index: int | None = None,
        host: str | None = None,
        call_id: str | None = None,
        attempt: int | None = None,
    ) -> None:
        super().__init__(message, index=index, host=host, call_id=call_id, attempt=attempt)
        self.message = message
        self.type_name = type_name
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.type_name else self.message
