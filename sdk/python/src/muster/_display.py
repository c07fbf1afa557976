"""What the user sees of a call while it runs: prints, and the live line."""

from __future__ import annotations

import sys
from typing import Any

from ._prints import Prints
from ._spinner import TICK_SECONDS, Spinner


class Display:
    """Prints and the spinner, if there is one. Used by the thread that reads events, but for `pause` and `resume`."""

    def __init__(self, spinner: Spinner | None) -> None:
        self._prints = Prints()
        self._spinner = spinner
        self._done = 0
        self._total: int | None = None

    @property
    def patience(self) -> float | None:
        """Seconds between two `tick`s; None if there is nothing to draw."""
        return None if self._spinner is None else TICK_SECONDS

    def printed(self, index: int, stream: int, data: bytes) -> None:
        """Input `index` printed `data`."""
        self._prints.feed(index, stream, data)

    def ended(self, first: int, count: int) -> None:
        """Inputs `first .. first+count` have ended."""
        self._done += count
        self._prints.ended(first, count)

    def total(self, total: int) -> None:
        """The call has `total` inputs."""
        if self._total is None:
            self._total = total
            self._prints.total(total)

    def progress(self, event: dict[str, Any]) -> None:
        """The gateway told how far the call is."""
        if self._spinner is not None:
            self._spinner.progress(event)
        if event.get("total") is not None:
            self.total(event["total"])

    def receipt(self, event: dict[str, Any]) -> None:
        """The gateway told what inputs cost."""
        if self._spinner is not None:
            self._spinner.used.add(event)

    def say(self, line: str | None) -> None:
        """Tell the user a line, if there is one; the live line is drawn again after it."""
        if line is not None:
            self._prints.flush()
            self.pause()
            print(line, file=sys.stderr)
            self.resume()

    def flush(self) -> None:
        """Write the prints that are ready; raises what `print` would raise."""
        self._prints.flush()

    def tick(self) -> None:
        """Draw the spinner, if it is time."""
        if self._spinner is not None:
            self._spinner.done(self._done)
            self._spinner.tick()

    def pause(self) -> None:
        """The user's code runs: leave the line to it."""
        if self._spinner is not None:
            self._spinner.pause()

    def resume(self) -> None:
        """The user's code waits for outputs."""
        if self._spinner is not None:
            self._spinner.resume()

    def close(self) -> None:
        """The call has ended: write what is left, erase the line."""
        if self._spinner is not None:
            self._spinner.done(self._done)
            self._spinner.close()
        self._prints.end()
