"""Run one Python function over many inputs, in containers, on every machine you own.

    from muster import remote_parallel_map

    def square(x):
        return x * x

    print(remote_parallel_map(square, range(10)))

`remote_parallel_map` sends the function and its inputs to a gateway, which spreads them over hosts; prints and
outputs stream back as they are produced. How the package is built, from the top:

- `_map` is `remote_parallel_map`: arguments in, list, generator or `Call` out; `aio` is the same for coroutines, with
  `_async` below it. `_plan` is what both share.
- `_session` owns one call while its client is there: `_upload` reads the user's iterable, `_stream` the events,
  `_collect` and `_ordered` take the outputs.
- `_call` is the handle of a call, attached from anywhere.
- `_data` is `put` and its `Ref`s, of which `_refs` notices those that a call uses.
- `secrets` sets what functions need and nobody else may see.
- `_prints`, `_spinner` write to the user's terminal; `_outcome` turns items into values and errors.
- `_safe` holds outputs to plain data where containers are not trusted.
- `_http`, `_config` reach the gateway. `_wire`, `_payload` are the protocol and the pickles; neither does I/O.
- `_runner` runs inside the containers and shares `_wire` and `_payload` with this side.

Nothing heavy is imported before it is used: `import muster` costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Where each public name lives, in the order a newcomer should meet them.
_HOMES = {
    "remote_parallel_map": "_map",
    "aio": "aio",
    "Call": "_call",
    "CallStatus": "_call",
    "Receipt": "_receipts",
    "calls": "_call",
    "hosts": "_call",
    "put": "_data",
    "Ref": "_data",
    "secrets": "secrets",
    "current": "_current",
    "Opaque": "_safe",
    "MusterError": "_errors",
    "UsageError": "_errors",
    "NotInCall": "_errors",
    "PicklingError": "_errors",
    "TransportError": "_errors",
    "ApiError": "_errors",
    "AuthError": "_errors",
    "NestedError": "_errors",
    "NoHosts": "_errors",
    "ImageError": "_errors",
    "CallNotFound": "_errors",
    "CallExpired": "_errors",
    "DataError": "_errors",
    "SecretError": "_errors",
    "ShareError": "_errors",
    "CallError": "_errors",
    "CallFailed": "_errors",
    "PackageError": "_errors",
    "Cancelled": "_errors",
    "InputError": "_errors",
    "WorkerDied": "_errors",
    "OutOfMemory": "_errors",
    "InputTimeout": "_errors",
    "ValueTooLarge": "_errors",
    "Damaged": "_errors",
    "HostLost": "_errors",
    "RemoteError": "_errors",
}

if TYPE_CHECKING:
    from . import aio as aio
    from . import secrets as secrets
    from ._call import Call as Call
    from ._call import CallStatus as CallStatus
    from ._call import calls as calls
    from ._call import hosts as hosts
    from ._current import current as current
    from ._data import Ref as Ref
    from ._data import put as put
    from ._errors import ApiError as ApiError
    from ._errors import AuthError as AuthError
    from ._errors import CallError as CallError
    from ._errors import CallExpired as CallExpired
    from ._errors import CallFailed as CallFailed
    from ._errors import CallNotFound as CallNotFound
    from ._errors import Cancelled as Cancelled
    from ._errors import Damaged as Damaged
    from ._errors import DataError as DataError
    from ._errors import HostLost as HostLost
    from ._errors import ImageError as ImageError
    from ._errors import InputError as InputError
    from ._errors import InputTimeout as InputTimeout
    from ._errors import MusterError as MusterError
    from ._errors import NestedError as NestedError
    from ._errors import NoHosts as NoHosts
    from ._errors import NotInCall as NotInCall
    from ._errors import OutOfMemory as OutOfMemory
    from ._errors import PackageError as PackageError
    from ._errors import PicklingError as PicklingError
    from ._errors import RemoteError as RemoteError
    from ._errors import SecretError as SecretError
    from ._errors import ShareError as ShareError
    from ._errors import TransportError as TransportError
    from ._errors import UsageError as UsageError
    from ._errors import ValueTooLarge as ValueTooLarge
    from ._errors import WorkerDied as WorkerDied
    from ._map import remote_parallel_map as remote_parallel_map
    from ._receipts import Receipt as Receipt
    from ._safe import Opaque as Opaque

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{home}")
    value = module if home == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
