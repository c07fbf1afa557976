"""One process of the service under test: started with its log in a file, stopped with SIGTERM."""

import ctypes
import os
import re
import signal
import subprocess
from pathlib import Path

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
# What is kept of a failure should say more than an operator wants to read.
LEVEL = "info,muster_gateway=debug,muster_agent=debug"
LOGS = {"MUSTER_AGENT_LOG": LEVEL, "MUSTER_GATEWAY_LOG": LEVEL, "NO_COLOR": "1"}


def _die_with_the_test_run():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Daemon:
    """A running daemon. Its standard output and error go to `log`. `within` is a command that becomes it
    after having put itself elsewhere, like `nsenter`; `environment` is added to that of the tests."""

    def __init__(self, arguments, log: Path, within=(), environment=None):
        self.name = Path(arguments[0]).name
        self.log = log
        self._file = log.open("ab")
        # A session of its own, so that a Ctrl-C at the test run's terminal leaves the order of
        # stopping to us.
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("MUSTER_")
        }
        self.process = subprocess.Popen(
            [str(argument) for argument in (*within, *arguments)],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
            env={**inherited, **LOGS, **(environment or {})},
            start_new_session=True,
            preexec_fn=_die_with_the_test_run,
        )

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def check(self):
        """Fails if the daemon has ended by itself."""
        assert self.running(), f"{self.name} ended with {self.process.returncode}:\n{self.tail()}"
        return True

    def tail(self, characters=4000):
        return self.log.read_bytes()[-characters:].decode("utf-8", "replace")

    def terminate(self):
        if self.running():
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds):
        """The exit code. One that has not ended by then is killed, and that is a failure."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.name} did not end within {seconds:g} s of SIGTERM:\n{self.tail()}"
            ) from None
        finally:
            self._file.close()

    def kill(self):
        """SIGKILL: a crash, or the last resort."""
        self.process.kill()
        self.process.wait(10)
        self._file.close()

    def memory_peak(self):
        """The largest resident set since the start, in bytes."""
        return self._status("VmHWM") * 1024

    def memory(self):
        """The resident set, in bytes."""
        return self._status("VmRSS") * 1024

    def _status(self, field):
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE).group(1))
