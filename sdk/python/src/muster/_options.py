"""What a user asks for, checked before anything is sent, as the SPEC of a call. Pure, but for `env` by name."""

from __future__ import annotations

import json
import math
import numbers
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Optional, Union

from . import _shares
from ._errors import UsageTypeError, UsageValueError

Env = Union[Mapping[str, str], Iterable[str], None]
Results = Literal["any", "safe"]

_MAX_NAME = 200
_MAX_KEY = 128
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Options(NamedTuple):
    """A call, all but its function and inputs."""

    spec: dict[str, Any]
    return_exceptions: bool
    ordered: bool
    results: Results
    key: Optional[str] = None
    """What the user calls this one call, so that it can be submitted again."""

    def frame_body(self, more_inputs: bool, data: Iterable[str] = ()) -> bytes:
        """The body of SPEC; `data` are the ids of the `Ref`s that are used."""
        spec = {**self.spec, "more_inputs": True} if more_inputs else self.spec
        if data:
            spec = {**spec, "data": sorted(data)}
        return json.dumps(spec, separators=(",", ":")).encode()


def options(
    function: Any,
    *,
    func_cpu: Any,
    func_ram: Any,
    max_parallelism: Any,
    background: bool,
    generator: bool,
    ordered: bool,
    image: Any,
    runtime: Any,
    env: Any,
    secrets: Any,
    shares: Any,
    timeout: Any,
    retries: Any,
    return_exceptions: bool,
    name: Any,
    key: Any,
    results: Any,
) -> Options:
    """The options of one call; `UsageTypeError` or `UsageValueError` names the argument that is wrong."""
    if background and generator:
        raise UsageValueError("background=True and generator=True exclude each other")
    if ordered and not generator:
        raise UsageValueError(
            "ordered=True is for generators: add generator=True, or leave it out, since "
            + ("a Call's results are" if background else "a list is")
            + " in input order anyway"
        )
    spec: dict[str, Any] = {
        "kind": "pickle",
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "cpu": _positive("func_cpu", func_cpu, "cores"),
        "ram": _positive("func_ram", func_ram, "GB"),
        # In order, a failure waits for its turn, and the inputs before it for their ends.
        "on_error": "continue" if return_exceptions or ordered else "stop",
        "name": _name(function, name),
    }
    if max_parallelism is not None:
        spec["max_parallelism"] = _whole("max_parallelism", max_parallelism, 1)
    if image is not None:
        spec["image"] = _image(image)
    if runtime is not None:
        spec["runtime"] = _runtime(runtime)
    if env is not None:
        spec["env"] = _env(env)
    if secrets is not None:
        spec["secrets"] = _secrets(secrets)
    if shares is not None:
        spec["shares"] = _shares.checked(shares)
    if timeout is not None:
        spec["timeout"] = _positive("timeout", timeout, "seconds")
    retries = _whole("retries", retries, 0)
    if retries:
        spec["retries"] = retries
    if background:
        spec["background"] = True
    return Options(
        spec,
        bool(return_exceptions),
        bool(ordered),
        checked_results(results),
        _key(key, background),
    )


def checked_results(results: Any) -> Results:
    """Which outputs are let in."""
    if results not in ("any", "safe"):
        raise UsageValueError(f"results must be 'any' or 'safe', not {results!r}")
    return results  # type: ignore[no-any-return]


def _key(key: Any, background: bool) -> Optional[str]:
    if key is None:
        return None
    if not isinstance(key, str):
        raise UsageTypeError(f"key must be a str, not {_kind(key)}")
    if not background:
        raise UsageValueError("key is for background calls: add background=True, or leave it out")
    if not 0 < len(key) <= _MAX_KEY or not (key.isascii() and key.isprintable()):
        raise UsageValueError(
            f"key must be 1 to {_MAX_KEY} printable ASCII characters, not {key!r}"
        )
    return key


def _positive(what: str, value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UsageTypeError(f"{what} must be a number of {unit}, not {_kind(value)}")
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise UsageValueError(f"{what} must be a positive number of {unit}, not {value!r}")
    return int(number) if number == int(number) else number


def _whole(what: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UsageTypeError(f"{what} must be a whole number, not {_kind(value)}")
    if value < least:
        raise UsageValueError(f"{what} must be at least {least}, not {value!r}")
    return int(value)


def _image(image: Any) -> str:
    if not isinstance(image, str):
        raise UsageTypeError(
            f"image must be a str such as 'muster/python:3.11', not {_kind(image)}"
        )
    if not image.strip():
        raise UsageValueError("image must not be empty")
    return image


def _runtime(runtime: Any) -> str:
    if not isinstance(runtime, str):
        raise UsageTypeError(f"runtime must be a str such as 'runsc', not {_kind(runtime)}")
    if not runtime.strip():
        raise UsageValueError("runtime must not be empty")
    return runtime


def _name(function: Any, name: Any) -> str:
    if name is None:
        name = getattr(function, "__name__", None) or type(function).__name__
    elif not isinstance(name, str):
        raise UsageTypeError(f"name must be a str, not {_kind(name)}")
    return str(name)[:_MAX_NAME]


def _env(env: Any) -> dict[str, str]:
    if isinstance(env, Mapping):
        pairs = dict(env)
    elif isinstance(env, (str, bytes)) or not isinstance(env, Iterable):
        raise UsageTypeError(
            f"env must be a mapping of names to values, or names to forward from here, not {_kind(env)}"
        )
    else:
        names = list(env)
        for name in names:
            if not isinstance(name, str):
                raise UsageTypeError(f"env: a name to forward must be a str, not {_kind(name)}")
        missing = [name for name in names if name not in os.environ]
        if missing:
            raise UsageValueError(
                f"env: not set here, so not to be forwarded: {', '.join(missing)}"
            )
        pairs = {name: os.environ[name] for name in names}
    for name, value in pairs.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageTypeError(f"env must map str to str: {name!r} is mapped to {_kind(value)}")
        if not name or "=" in name or "\0" in name + value:
            raise UsageValueError(f"env: {name!r} cannot be an environment variable")
    return pairs


def _secrets(names: Any) -> list[str]:
    if isinstance(names, (str, bytes, Mapping)) or not isinstance(names, Iterable):
        raise UsageTypeError(
            f"secrets must be a list of names, not {type(names).__name__}; "
            "muster.secrets.set(name, value) sets one"
        )
    return [secret_name(name) for name in names]


def secret_name(name: Any) -> str:
    """The name of a secret, checked for its form."""
    if not isinstance(name, str):
        raise UsageTypeError(f"the name of a secret must be a str, not {type(name).__name__}")
    if not _SECRET.fullmatch(name):
        raise UsageValueError(
            f"{name[:60]!r} cannot be the name of a secret: "
            "letters, digits and _, as environment variables have them"
        )
    return name


def _kind(value: Any) -> str:
    return f"{type(value).__name__} ({value!r:.60})"
