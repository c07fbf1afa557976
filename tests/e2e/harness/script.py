"""A client in a process of its own: what it prints can be waited for while it runs."""

import os
import signal
import subprocess
import sys
import threading

from .wait import until


def as_from_a_terminal():
    """Before a client's program starts: it can be interrupted, even if this test run cannot.

    A shell's background jobs ignore Ctrl-C, and pass that on to all they start.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Script:
    """A started process. Both its streams are read all the time, so it never blocks on us.

    As a context manager it is killed at the end if it still runs.
    """

    def __init__(self, arguments, *, cwd, env=None, stdin=None):
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            start_new_session=True,
            preexec_fn=as_from_a_terminal,
        )
        self._read = {1: bytearray(), 2: bytearray()}
        self._threads = [
            threading.Thread(target=self._drain, args=(pipe, stream), daemon=True)
            for stream, pipe in ((1, self.process.stdout), (2, self.process.stderr))
        ]
        for thread in self._threads:
            thread.start()
        if stdin is not None:
            self.process.stdin.write(stdin)
        self.process.stdin.close()

    @classmethod
    def python(cls, folder, source, *arguments, options=(), **more):
        """Writes `source` to `folder`/script.py and runs it with this Python."""
        path = folder / "script.py"
        path.write_text(source)
        return cls([sys.executable, *options, path, *arguments], cwd=folder, **more)

    def _drain(self, pipe, stream):
        with pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self._read[stream] += data

    @property
    def stdout(self):
        return bytes(self._read[1])

    @property
    def stderr(self):
        return bytes(self._read[2])

    def wait_for(self, text, seconds=20.0, stream=1):
        """Waits until the process has written `text`."""

        def written():
            if text in self._read[stream]:
                return True
            ended = self.process.poll() is not None and not self._threads[stream - 1].is_alive()
            assert not ended or text in self._read[stream], (
                f"the client ended ({self.process.returncode}) without {text!r}\n{self}"
            )
            return False

        until(f"the client has written {text!r}", written, seconds)

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self, seconds=30.0):
        """Waits until the process has ended and all it wrote was read; its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the client has not ended after {seconds:g} s\n{self}") from None
        for thread in self._threads:
            thread.join(5)
        return code

    def succeed(self, seconds=30.0):
        """Waits for the end, wants exit code 0, and returns standard output."""
        code = self.end(seconds)
        assert code == 0, f"the client ended with {code}\n{self}"
        return self.stdout

    def __str__(self):
        errors = self.stderr[-4000:].decode("utf-8", "replace")
        return f"stdout: {self.stdout[-4000:]!r}\nstderr: {errors}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
