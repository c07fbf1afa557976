"""The live line: on a terminal only, prints above it undisturbed, gone at the end."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from muster import _screen, remote_parallel_map
from muster._spinner import Spinner, spinner_for

SOURCE = """
import sys, time, muster
sys.path.insert(0, {here!r})
from fake_gateway import TOKEN, Gateway, say
def run(x):
    say(b"line %d\\n" % x)
    time.sleep(0.15)
    import __main__
    __main__.gateway.call.tell(workers=2, hosts=1)
    return x
with Gateway() as gateway:
    for inputs in (range(6), iter(range(6))):
        gateway.calls.clear()
        muster.remote_parallel_map(run, inputs, url=gateway.url, token=TOKEN{more})
print("after the call")
"""


def on_a_terminal(source: str, stdout: int | None = None) -> bytes:
    """What a script writes to a terminal of 80 columns."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    out = slave if stdout is None else stdout
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=slave, stdout=out, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        pieces = []
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            pieces.append(piece)
        assert process.wait(30) == 0, b"".join(pieces)
    os.close(master)
    return b"".join(pieces)


def screen(raw: bytes) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines = []
    for line in raw.decode().split("\r\n"):
        lines.append(re.split(r"\r\x1b\[K", line)[-1])
    return lines


def source(more: str = "") -> str:
    return SOURCE.format(here=str(Path(__file__).parent), more=more)


def test_on_a_terminal_there_is_one_live_line_and_it_is_erased_at_the_end():
    raw = on_a_terminal(source())
    text = raw.decode()
    assert re.search(r"run \d/6 · 2 workers on 1 host · \ds", text), text
    assert "6/6" in text
    assert screen(raw) == [*(f"line {x}" for x in range(6))] * 2 + ["after the call", ""]


def test_prints_go_to_a_file_without_control_codes_while_the_line_is_live(tmp_path):
    with (tmp_path / "out").open("wb") as file:
        raw = on_a_terminal(source(), stdout=file.fileno())
    assert (tmp_path / "out").read_bytes() == b"".join(
        b"line %d\n" % x for x in range(6)
    ) * 2 + b"after the call\n"
    assert b"2 workers" in raw
    assert screen(raw)[-1] == ""


def test_without_a_spinner_a_terminal_gets_only_the_prints():
    raw = on_a_terminal(source(", spinner=False"))
    assert b"\x1b" not in raw
    assert b"/6" not in raw


def test_without_a_terminal_there_are_only_the_prints():
    done = subprocess.run(
        [sys.executable, "-c", source()], capture_output=True, check=True, timeout=30
    )
    assert done.stdout == b"".join(b"line %d\n" % x for x in range(6)) * 2 + b"after the call\n"
    assert done.stderr == b""


def test_there_is_no_spinner_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert spinner_for(len) is None
    monkeypatch.setattr(sys, "stderr", None)
    assert spinner_for(len) is None


def test_a_dumb_terminal_gets_no_control_codes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    assert spinner_for(len) is None


def test_it_says_why_nothing_runs():
    spinner = Spinner("f")
    spinner.progress(
        {"done": 0, "total": 12, "workers": 0, "hosts": 0, "waiting": "0 of 2 slots free"}
    )
    assert "f 0/12 · waiting: 0 of 2 slots free · 0s" in spinner.text(spinner._started)
    spinner.progress({"done": 0, "total": None, "waiting": "pulling image X\x1b 40 %"})
    assert "f 0/? · pulling image X  40 % · 1m05s" in spinner.text(spinner._started + 65)


def test_one_spinner_draws_at_a_time_and_prints_of_any_call_erase_it(
    monkeypatch: pytest.MonkeyPatch,
):
    terminal = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    first, second = object(), object()
    _screen.draw(first, "first")
    _screen.draw(second, "second")
    with _screen.printing(terminal, ends_line=False):
        terminal.write("half a line")
    _screen.draw(first, "not over half a line")
    with _screen.printing(terminal, ends_line=True):
        terminal.write("!\n")
    _screen.leave(first)
    _screen.draw(second, "second")
    _screen.leave(second)
    erase = "\r\x1b[K"
    assert terminal.getvalue() == f"{erase}first{erase}half a line!\n{erase}second{erase}"


def test_in_a_notebook_prints_are_text_and_there_are_no_control_codes(
    gateway, monkeypatch: pytest.MonkeyPatch
):
    from fake_gateway import say

    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    remote_parallel_map(lambda x: say(b"in the page %d\n" % x), [1, 2])
    assert sorted(out.getvalue().splitlines()) == ["in the page 1", "in the page 2"]
    assert err.getvalue() == ""


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True
