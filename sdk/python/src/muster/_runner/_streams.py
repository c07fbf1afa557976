"""stdout and stderr of the user's code: real pipes, flushed and counted at the end of every input.

How many bytes were written into a pipe is what the agent has read (it says so on the page) plus what still
lies in it (FIONREAD): that counts everybody's bytes, subprocesses' and C code's too. C's own stdout is made
unbuffered, so that there is nothing of it to flush; Python's streams are line buffered, as on a terminal.

A write for each line is most of what a line costs. Collecting lines, even in shared memory where a crash does not lose
them, would put them after what C code, or a child that lives already, writes in the meantime: nothing tells us of that.
"""

from __future__ import annotations

import array
import fcntl
import io
import os
import struct
import sys
import termios
from contextlib import suppress
from typing import Any, NamedTuple, Optional, TextIO

from ._channel import Channel, move_high
from ._watch import Watch

FIONREAD = termios.FIONREAD


class Streams:
    """The two pipes, under descriptors of ours that outlive whatever the user does to 1 and 2."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        for descriptor in (1, 2):
            os.set_blocking(descriptor, True)
        self.out_fd = move_high(1, close=False)
        self.err_fd = move_high(2, close=False)
        self.out: TextIO = sys.stdout
        self.err: TextIO = sys.stderr
        for stream in (self.out, self.err):
            if isinstance(stream, io.TextIOWrapper):
                errors = "backslashreplace" if stream is self.err else "strict"
                stream.reconfigure(encoding="utf-8", errors=errors, line_buffering=True)
        self.watch = Watch((self.out_fd, self.err_fd))

    def flush(self) -> None:
        """Flushes Python's streams, the user's replacements too; opens again what was closed."""
        for name in ("stdout", "stderr"):
            current = getattr(sys, name, None)
            own = self.out if name == "stdout" else self.err
            if current is not own:
                with suppress(Exception):
                    current.flush()  # type: ignore[union-attr]
            try:
                own.flush()
            except ValueError:
                self._reopen(name, own)
            except OSError:
                self.check_descriptors()

    def check_descriptors(self) -> None:
        """Puts the pipes back where the user's code closed descriptor 1 or 2."""
        for descriptor, kept in ((1, self.out_fd), (2, self.err_fd)):
            try:
                fcntl.fcntl(descriptor, fcntl.F_GETFD)
            except OSError:
                os.dup2(kept, descriptor)

    def _reopen(self, name: str, closed: TextIO) -> None:
        self.check_descriptors()
        is_out = name == "stdout"
        stream = open(  # noqa: SIM115
            1 if is_out else 2,
            "w",
            encoding="utf-8",
            errors="strict" if is_out else "backslashreplace",
            buffering=1,
            closefd=False,
        )
        if is_out:
            self.out = sys.__stdout__ = stream  # type: ignore[misc]
        else:
            self.err = sys.__stderr__ = stream  # type: ignore[misc]
        if getattr(sys, name, None) is closed:
            setattr(sys, name, stream)

    def boundary(self) -> Boundary:
        """Bytes that were ever written into each pipe, and the agent's last read where both pipes are empty."""
        page = self._channel.page
        out, err = array.array("i", [0]), array.array("i", [0])
        while True:
            before = page[0:24]
            seq, out_read, err_read = _READ_WORDS.unpack(before)
            if seq & 1 == 0:
                fcntl.ioctl(self.out_fd, FIONREAD, out)
                fcntl.ioctl(self.err_fd, FIONREAD, err)
                if page[0:24] == before:
                    is_empty = not (out[0] or err[0])
                    seen = seq if is_empty else -1
                    return Boundary(seen, out_read + out[0], err_read + err[0])
            os.sched_yield()


class Boundary(NamedTuple):
    """The end of an input in the bytes of both pipes."""

    seen: int
    """The page's number of the agent's last read, if that took all; else one that never comes."""
    out_total: int
    err_total: int


_READ_WORDS = struct.Struct("<QQQ")


class CLibrary:
    """What is asked of the C library, where ctypes can reach it."""

    def __init__(self) -> None:
        self._libc: Any = None
        self._stdout: Any = None
        self.index_text: Optional[memoryview] = None
        try:
            import ctypes

            self._libc = libc = ctypes.PyDLL(None)
            libc.putenv.argtypes = [ctypes.c_char_p]
            libc.setvbuf.argtypes = [
                ctypes.c_void_p,
                ctypes.c_char_p,
                ctypes.c_int,
                ctypes.c_size_t,
            ]
            libc.fflush.argtypes = [ctypes.c_void_p]
            self._stdout = ctypes.c_void_p.in_dll(libc, "stdout")
            unbuffered = 2
            libc.setvbuf(self._stdout, None, unbuffered, 0)
            # The environment holds a pointer to these bytes, so writing a number here is setting the variable.
            self._variable = ctypes.create_string_buffer(
                b"MUSTER_INPUT_INDEX=".ljust(64, b"\0"), 64
            )
            libc.putenv(self._variable)
            self.index_text = memoryview(self._variable).cast("B")[19:40]
        except (ImportError, OSError, AttributeError, ValueError):
            self._libc = None

    def flush(self) -> None:
        """Flushes the streams that C code opened itself."""
        if self._libc is not None:
            self._libc.fflush(None)
