"""From SPEC and FUNCTION to something to call: a pickled function, or source with an entry name."""

from __future__ import annotations

import json
import linecache
import pickle
import sys
import time
from types import ModuleType
from typing import Any, Callable, Dict

from .._places import PACKAGES
from . import _describe, _pickles
from ._modules import unpack

_SOURCE_FILE = "<source>"


class Call:
    """What a call's inputs run through: `loads` an input, the `function`, `dumps` its value.

    `dumps` is quick and may refuse, as may `dumps_large`, for values that are probably large; then `dumps_again` does
    all that can be done, or says why not.
    """

    loads: Callable[[Any], Any]
    function: Callable[[Any], Any]
    dumps: Callable[[Any, int], bytes]
    dumps_large: Callable[[Any, int], Any]
    dumps_again: Callable[[Any], bytes]

    def __init__(self, spec: Dict[str, Any], body: bytes) -> None:
        self.is_pickle = spec["kind"] == "pickle"
        self.image: str = spec.get("image") or ""
        if self.is_pickle:
            _check_version(spec)
            self.loads, self.dumps = pickle.loads, pickle.dumps
            self.dumps_large = _pickles.dump_large
            self.dumps_again = _pickles.dump_output
            self.function = pickle.loads(unpack(body))
        else:
            self.loads, self.dumps = json.loads, _plain_json
            self.dumps_large = self.dumps
            self.dumps_again = _dump_json
            self.function = _load_source(body, spec.get("entry") or "main")
        if spec.get("timeout_ms"):
            from .._current import Timed

            self.function = Timed(self.function, spec["timeout_ms"] / 1000)

    @staticmethod
    def failed(spec: Dict[str, Any], error: BaseException) -> bytes:
        """The item of every input of a call whose function cannot be loaded."""
        return _describe.item(error, spec["kind"] == "pickle", spec.get("image") or "")


def rehearse() -> None:
    """Loads a function of nobody's: the first one of a process takes three times as long as the next."""
    from cloudpickle import cloudpickle

    function = cloudpickle.dumps(lambda value: value)
    head = json.dumps({"modules": [], "function_len": len(function)}).encode()
    spec = {"kind": "pickle", "call": ""}
    apply_environment(spec)
    Call(spec, len(head).to_bytes(4, "little") + head + function)


def apply_environment(spec: Dict[str, Any]) -> None:
    """Sets the call's environment in this process."""
    import os

    os.environ.update(spec.get("env") or {})
    os.environ["MUSTER_CALL_ID"] = spec["call"]
    if "TZ" in os.environ:
        time.tzset()
    if spec.get("packages") and os.path.isdir(PACKAGES):
        _add_packages()
    for folder in reversed((spec.get("env") or {}).get("PYTHONPATH", "").split(":")):
        if folder:
            sys.path.insert(0, folder)


def _add_packages() -> None:
    """Puts the call's packages before the image's own, and after the standard library."""
    import os
    import site

    before = len(sys.path)
    site.addsitedir(PACKAGES)
    added = sys.path[before:]
    del sys.path[before:]
    own = (n for n, at in enumerate(sys.path) if at.endswith(("site-packages", "dist-packages")))
    at = next(own, before - 1)
    sys.path[at:at] = added
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((os.path.join(PACKAGES, "bin"), path))
    # Nobody has looked there before, so no cache needs `importlib.invalidate_caches()`, which in newer Pythons imports
    # half the standard library.


def _check_version(spec: Dict[str, Any]) -> None:
    wanted = spec.get("python")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if wanted and wanted != here:
        raise RuntimeError(
            f"the function was pickled by Python {wanted}, but image {spec.get('image')} has Python {here}"
        )


def _load_source(body: bytes, entry: str) -> Callable[[Any], Any]:
    text = body.decode("utf-8")
    linecache.cache[_SOURCE_FILE] = (len(text), None, text.splitlines(True), _SOURCE_FILE)
    # Not `__main__`: an `if __name__ == "__main__"` at its end would run in every worker.
    module = ModuleType("__muster_main__")
    sys.modules[module.__name__] = module
    exec(compile(text, _SOURCE_FILE, "exec"), vars(module))
    function = vars(module).get(entry)
    if not callable(function):
        defined = sorted(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
        raise NameError(
            f"the source defines no function {entry!r}; it defines: {', '.join(defined) or 'none'}"
        )
    return function  # type: ignore[no-any-return]


def _plain_json(value: Any, _protocol: int) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _dump_json(value: Any) -> bytes:
    try:
        return _plain_json(value, 0)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"the function returned {type(value).__qualname__}, which cannot be written as JSON: {error}"
        ) from None
