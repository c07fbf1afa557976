"""A pseudo-terminal with a program on it, and what a person would see there."""

import os
import pty
import re
import struct
import subprocess
import termios
import threading
from fcntl import ioctl

from .script import as_from_a_terminal
from .wait import until

CONTROL = re.compile(rb"\x1b\[([0-9;?]*)([A-Za-z])")


class Terminal:
    """Runs `arguments` on a terminal of its own. `raw` is every byte it got, `screen()` the lines
    as they stand."""

    def __init__(self, arguments, *, cwd, env, columns=100, rows=30):
        main, inner = pty.openpty()
        ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm-256color", **env},
            start_new_session=True,
            preexec_fn=as_from_a_terminal,
        )
        os.close(inner)
        self._main = main
        self._raw = bytearray()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self):
        while True:
            try:
                data = os.read(self._main, 1 << 16)
            except OSError:
                return  # the kernel's way to say that nobody holds the other end
            if not data:
                return
            self._raw += data

    @property
    def raw(self):
        return bytes(self._raw)

    def screen(self):
        return rendered(self.raw)

    def wait_for(self, pattern, seconds=20.0):
        """Waits until a line on the screen has matched at some moment; every moment's line counts,
        overwritten or not."""
        return until(
            f"the terminal has shown {pattern!r}", lambda: re.search(pattern, self.raw), seconds
        )

    def end(self, seconds=30.0):
        code = self.process.wait(seconds)
        self._thread.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._thread.join(5)
        os.close(self._main)


def rendered(raw):
    """The lines a terminal shows after these bytes: carriage return, line feed, cursor up and down,
    erase."""
    lines, row, column, at = [[]], 0, 0, 0
    while at < len(raw):
        control = CONTROL.match(raw, at)
        if control:
            at = control.end()
            count = int(control[1]) if control[1].isdigit() else None
            if control[2] == b"A":
                row = max(0, row - (count or 1))
            elif control[2] == b"B":
                row += count or 1
            elif control[2] == b"C":
                column += count or 1
            elif control[2] == b"K":
                lines[row] = lines[row][:column] if not count else [] if count == 2 else lines[row]
            elif control[2] == b"J" and not count:
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
        else:
            byte = raw[at : at + 1]
            at += 1
            if byte == b"\r":
                column = 0
            elif byte == b"\n":
                row += 1
            elif byte == b"\b":
                column = max(0, column - 1)
            else:
                lines[row].extend([b" "] * (column - len(lines[row])))
                lines[row][column : column + 1] = [byte]
                column += 1
        while row >= len(lines):
            lines.append([])
    return [b"".join(line).decode("utf-8", "replace").rstrip() for line in lines]
