"""What every example does besides its own work: the option `--small`, and the time of the plain loop."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

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


def compare(remote_seconds: float, serial_seconds: float) -> None:
    """The last line of an example."""
    print(
        f"\nMuster {remote_seconds:.2f} s, plain loop here {serial_seconds:.2f} s: "
        f"{serial_seconds / remote_seconds:.2g} times as fast"
    )
