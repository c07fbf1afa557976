"""Which shared data is used by what is being pickled. Nothing is noted while nobody asks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class _Asking(threading.local):
    used: set[str] | None = None


_asking = _Asking()


@contextlib.contextmanager
def noticed(used: set[str]) -> Iterator[None]:
    """Ids of the `Ref`s that this thread pickles meanwhile go into `used`."""
    before, _asking.used = _asking.used, used
    try:
        yield
    finally:
        _asking.used = before


def notice(ref_id: str) -> None:
    """A `Ref` is being pickled."""
    if _asking.used is not None:
        _asking.used.add(ref_id)
