"""Muster's gateway with simulated hosts (`tests/fleet`): the program starts both, answers a question, ends both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from .base import System

VARIANTS = ("10-hosts", "100-hosts", "1000-hosts", "alone", "10000-calls-queued")
"""Of the system `muster`: how large the simulated fleet is, or what waits beside the measured call."""


class Simulated(System):
    """Starts nothing before it is asked something."""

    name = "muster"
    package = "muster"

    def start(self) -> None:
        self.program = Path(os.environ["MUSTER_BIN_DIR"]) / "muster-fleet"
        if not self.program.exists():
            raise RuntimeError(
                f"{self.program} is not there; `cargo build --release -p muster-fleet` makes it"
            )

    def warm_up(self) -> None:
        """Each question has a gateway of its own."""

    def stop(self) -> None:
        """What was started has ended with its question."""

    def ask(self, flags: list[str], scenario: str, *options: str) -> dict[str, Any]:
        """Runs one scenario; what it found."""
        command = [str(self.program), *flags, scenario, *options]
        # A thousand hosts in one process: memory is got from the system in large steps, as a thousand processes would.
        environment = {**os.environ, "MALLOC_TOP_PAD_": str(64 << 20)}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=300, env=environment
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
