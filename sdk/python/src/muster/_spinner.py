"""The live line of a call: on a terminal, or in a notebook; nowhere else."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from . import _screen
from ._receipts import Used

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"

_TELLING = ("waiting", "starting", "pulling", "preparing", "environment")
"""How reasons begin that say what is being done."""
TICK_SECONDS = 0.1
# Calls that end sooner are not worth a flicker.
FIRST_SECONDS = 0.2
_NOTEBOOK_SECONDS = 0.5


class Spinner:
    """Shows how far one call is. `tick` draws when it is time; `show` says what to draw."""

    def __init__(self, function_name: str, cores: float = 1, memory_gb: float = 4) -> None:
        self._name = function_name
        self.used = Used(cores, memory_gb)
        """What the call has used; its line stays when the live one goes."""
        self._started = time.monotonic()
        self._next = self._started + FIRST_SECONDS
        self._progress: dict[str, Any] = {}
        self._done = 0
        self._paused = False
        self._notebook = _notebook()
        self._display: Any = None
        self._shown = False
        self._frames = _FRAMES if _encodable() else _ASCII_FRAMES

    def progress(self, event: dict[str, Any]) -> None:
        """A progress event came."""
        self._progress = event

    def done(self, done: int) -> None:
        """`done` inputs have ended, as far as this side knows."""
        self._done = done

    def tick(self) -> None:
        """Draw, if it is time."""
        now = time.monotonic()
        if now < self._next or self._paused:
            return
        self._shown = True
        if self._notebook is not None:
            self._next = now + _NOTEBOOK_SECONDS
            self._show_in_notebook(self.text(now))
            return
        self._next = now + TICK_SECONDS
        columns = shutil.get_terminal_size().columns
        _screen.draw(self, self.text(now)[: max(columns - 1, 1)])

    def pause(self) -> None:
        """Take the line away while the user's code runs in between."""
        self._paused = True
        _screen.erase(self)

    def resume(self) -> None:
        """Draw again, a little later."""
        self._paused = False
        self._next = max(self._next, time.monotonic() + FIRST_SECONDS)

    def close(self) -> None:
        """Show how it ended, where anything was shown at all, and erase the line for good."""
        if self._shown and not self._paused:
            self._next = 0.0
            self.tick()
        self._paused = True
        _screen.leave(self)
        line = self.used.line() or ""
        if self._display is not None:
            self._display.update({"text/plain": line}, raw=True)
            self._display = None
        elif line and _screen.is_terminal(sys.stderr):
            print(line, file=sys.stderr)

    def text(self, now: float) -> str:
        """The line at monotonic time `now`."""
        said = self._progress
        elapsed = now - self._started
        done = max(self._done, said.get("done") or 0)
        total = said.get("total")
        frame = self._frames[int(elapsed / TICK_SECONDS) % len(self._frames)]
        parts = [f"{frame} {self._name} {done}/{'?' if total is None else total}"]
        workers, hosts = said.get("workers") or 0, said.get("hosts") or 0
        if workers:
            parts.append(
                _count(workers, "worker") + (f" on {_count(hosts, 'host')}" if hosts else "")
            )
        waiting = said.get("waiting")
        if waiting:
            text = str(waiting)
            parts.append(text if text.startswith(_TELLING) else f"waiting: {text}")
        elif not workers and not done:
            parts.append("starting")
        parts.append(_elapsed(elapsed))
        return _printable(" · ".join(parts) if self._frames is _FRAMES else " - ".join(parts))

    def _show_in_notebook(self, text: str) -> None:
        content = {"text/plain": text}
        if self._display is None:
            self._display = self._notebook.display(content, raw=True, display_id=True)
        else:
            self._display.update(content, raw=True)


def spinner_for(function: Any, cores: float = 1, memory_gb: float = 4) -> Spinner | None:
    """A spinner, if there is somewhere to show it."""
    if _notebook() is None and not _screen.is_terminal(sys.stderr):
        return None
    name = getattr(function, "__name__", None) or type(function).__name__
    return Spinner(str(name), cores, memory_gb)


def _notebook() -> Any:
    """IPython's display module inside a notebook's kernel, else None."""
    if "ipykernel" not in sys.modules:
        return None
    try:
        from IPython import display, get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return display if shell is not None and hasattr(shell, "kernel") else None


def _encodable() -> bool:
    try:
        _FRAMES.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _printable(text: str) -> str:
    """Without control characters, which a reason from elsewhere could hold."""
    return "".join(char if char.isprintable() else " " for char in text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _elapsed(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole // 60 % 60:02}m"
