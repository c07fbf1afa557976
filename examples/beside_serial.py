"""What every example does besides its own work: the option `--small`, hosts made ready, the time of the plain loop."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeVar

from muster import remote_parallel_map

T = TypeVar("T")


def options(doc: str | None) -> argparse.ArgumentParser:
    """The options of an example whose docstring this is."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a few inputs, for tests")
    return parser


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the seconds it took."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def get_ready(function: Callable[[Any], Any], first: Any, **options: Any) -> None:
    """Has the hosts install what `function` imports, which they do once, by a call of one input."""
    _, seconds = timed(lambda: remote_parallel_map(function, [first], **options))
    print(f"hosts are ready after {seconds:.1f} s; what they installed stays\n")


def compare(remote_seconds: float, serial_seconds: float) -> None:
    """The last line of an example."""
    faster = serial_seconds / remote_seconds
    verdict = f"{faster:.2g} times as fast" if faster >= 1 else f"{1 / faster:.2g} times as long"
    print(f"\nMuster {remote_seconds:.2f} s, plain loop here {serial_seconds:.2f} s: {verdict}")
