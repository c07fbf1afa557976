"""Whether anybody wrote into the two pipes, asked after every input.

There are two ways to know. *Asking* is one system call: if nothing lies in either pipe, and the agent has read nothing
since nothing did, then nobody wrote. *Listening* costs nothing: the kernel sends this process SIGURG, whose default is
to be ignored, when anybody writes, before that write returns. As a signal costs more than the question, and may
interrupt what the user's code waits for, only inputs that print nothing are listened to: after `CALM` of them in a row,
until the first signal.

Listening is not possible where the pipes' other ends cannot be opened, where the signal does not come (it is tried
once), or where the user's code has blocked it or wants it for itself; this is looked at before each batch.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import termios
from typing import Any, Callable, List, Optional, Sequence

from ._channel import move_high

CALM = 64
"""Inputs in a row that printed nothing, after which it is worth while to listen."""
_SIGNAL = signal.SIGURG


class Watch:
    """The two pipes, given by descriptors of their writing ends."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self.rang: List[int] = []
        """Not empty when somebody wrote since `listen`."""
        self.listening = False
        self._descriptors = descriptors
        self._counts = array.array("i", [0])
        self._ends: List[int] = []
        self._epoll: Optional[select.epoll] = None
        self._handler: Any = None
        self.ask: Callable[[float, int], Any] = self._count
        """Whether anything lies in either pipe; its arguments are 0 and 2."""
        try:
            self._open()
            self._handle()
        except (OSError, ValueError):
            self._handler = None

    def can_listen(self) -> bool:
        """Whether the signal would come; looks at what the user's code may have changed."""
        return (
            self._handler is not None
            and signal.getsignal(_SIGNAL) == self._handler
            and _SIGNAL not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        )

    def listen(self) -> None:
        """From now on every write rings. What was written before has to be asked for."""
        self.rang.clear()
        for end in self._ends:
            _set_async(end, True)
        self.listening = True

    def stop(self) -> None:
        """No write rings any more."""
        self.listening = False
        for end in self._ends:
            _set_async(end, False)

    def _open(self) -> None:
        low = select.epoll()
        epoll = select.epoll.fromfd(move_high(low.fileno(), close=False))
        low.close()
        for descriptor in self._descriptors:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
            end = move_high(os.open(f"/proc/self/fd/{descriptor}", flags))
            epoll.register(end, select.EPOLLIN)
            self._ends.append(end)
        self._epoll, self.ask = epoll, epoll.poll

    def _handle(self) -> None:
        """Sets the handler, and tries whether a write rings."""
        self._handler = self._ring
        signal.signal(_SIGNAL, self._handler)
        signal.siginterrupt(_SIGNAL, False)
        for end in self._ends:
            _send_here(end)
        reading, writing = os.pipe()
        try:
            _send_here(reading)
            _set_async(reading, True)
            os.write(writing, b"x")
            if not self.rang:
                raise OSError("a write does not ring")
        finally:
            os.close(reading)
            os.close(writing)

    def _ring(self, _signal: int, _frame: Any) -> None:
        self.rang.append(1)
        if self.listening:
            self.stop()

    def _count(self, _timeout: float, _events: int) -> bool:
        for descriptor in self._descriptors:
            fcntl.ioctl(descriptor, termios.FIONREAD, self._counts)
            if self._counts[0]:
                return True
        return False


def _send_here(end: int) -> None:
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETSIG, _SIGNAL)


def _set_async(end: int, on: bool) -> None:
    flags = fcntl.fcntl(end, fcntl.F_GETFL)
    fcntl.fcntl(end, fcntl.F_SETFL, flags | os.O_ASYNC if on else flags & ~os.O_ASYNC)
