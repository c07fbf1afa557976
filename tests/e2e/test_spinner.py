"""The spinner: one live line on a terminal, prints above it undisturbed; elsewhere no control codes
at all."""

import os
import re
import signal
import sys

import pytest
from harness import until
from harness.terminal import Terminal


@pytest.fixture
def terminal(service, tmp_path):
    """Runs a script on a terminal: `with terminal(source) as t`."""

    def start(source):
        path = tmp_path / "script.py"
        path.write_text(source)
        return Terminal([sys.executable, path], cwd=tmp_path, env=service.environment)

    return start


PRINTING = """
import sys, time, muster

def run(x):
    print("line", x)
    if x % 3 == 0:
        print("error", x, file=sys.stderr)
    time.sleep(0.1)
    return x

muster.remote_parallel_map(run, range(12), func_ram=0.25)
print("after the call")
"""


def test_a_terminal_has_one_live_line_and_the_prints_stand_undisturbed_above_it(terminal):
    with terminal(PRINTING) as shown:
        shown.wait_for(rb"\d+/12")
        assert shown.end() == 0, shown.raw
    lines = [line for line in shown.screen() if line]
    prints = [line for line in lines if re.fullmatch(r"(line|error) \d+", line)]
    wanted = [f"line {x}" for x in range(12)] + [f"error {x}" for x in range(0, 12, 3)]
    assert sorted(prints) == sorted(wanted), lines
    assert lines[-1] == "after the call"
    rest = [line for line in lines if line not in prints]
    assert len(rest) <= 2, f"more than one live line is left on the screen: {rest}"
    assert b"12/12" in shown.raw


def test_the_live_line_shows_running_workers_hosts_and_elapsed_time(terminal):
    with terminal(PRINTING) as shown:
        assert shown.end() == 0, shown.raw
    text = shown.raw.decode()
    assert re.search(r"[12] worker|[12] running|running:? [12]", text), text
    assert re.search(r"1 host", text), text
    assert re.search(r"\d+(\.\d+)? ?s|\d+:\d\d", text), text


def test_while_nothing_runs_it_says_why(terminal, service):
    body = {
        "source": "import time\ndef run(x):\n    time.sleep(600)\n",
        "entry": "run",
        "inputs": [0, 1],
        "ram": 0.25,
    }
    blocking = service.api.create(**body)
    until("all room is taken", lambda: service.agents[0].status()["free_cores"] == 0)
    try:
        with terminal(PRINTING) as shown:
            shown.wait_for(rb"0 of \d+ slots? free")
            service.api.cancel(blocking["id"])
            assert shown.end() == 0, shown.raw
    finally:
        service.api.cancel(blocking["id"])
    assert "line 11" in shown.screen()


def test_without_a_terminal_there_are_only_the_prints(script):
    running = script(PRINTING)
    out = running.succeed()
    assert sorted(out.splitlines()) == sorted(
        [b"line %d" % x for x in range(12)] + [b"after the call"]
    )
    assert sorted(running.stderr.splitlines()) == sorted(b"error %d" % x for x in range(0, 12, 3))


def test_with_spinner_false_a_terminal_gets_only_the_prints(terminal):
    with terminal(PRINTING.replace("func_ram=0.25", "func_ram=0.25, spinner=False")) as shown:
        assert shown.end() == 0
    assert b"\x1b" not in shown.raw
    assert b"12/12" not in shown.raw


def test_the_end_of_a_call_says_in_one_line_what_it_used_of_what_it_asked(terminal):
    source = """
import time, muster
muster.remote_parallel_map(lambda x: time.sleep(2.6), range(2), func_ram=2)
print("after the call")
"""
    with terminal(source) as shown:
        assert shown.end() == 0, shown.raw
    lines = [line for line in shown.screen() if line]
    said = [line for line in lines if "largest peak" in line]
    assert len(said) == 1, lines
    wanted = (
        r"asked 2 GB, largest peak 0\.\d+ GB: func_ram=0.25 would fit 8 x more; used 0\S* of 1 core"
    )
    assert re.fullmatch(wanted, said[0])
    assert lines[-1] == "after the call"


def test_an_error_leaves_the_terminal_clean(terminal):
    source = PRINTING.replace("return x", "assert x < 5, 'too far'")
    with terminal(source) as shown:
        assert shown.end() == 1
    lines = [line for line in shown.screen() if line]
    assert lines[-1].startswith("AssertionError: too far") or "AssertionError: too far" in lines, (
        lines
    )
    assert any(line.startswith("Traceback (most recent call last)") for line in lines), (
        "the traceback has its own line"
    )


def test_ctrl_c_typed_at_the_terminal_cancels(terminal, service):
    source = """
import time, muster
muster.remote_parallel_map(lambda x: time.sleep(600), range(3), func_ram=0.25)
"""
    with terminal(source) as shown:
        shown.wait_for(rb"0/3")
        until("the call runs", lambda: service.api.calls()[0]["state"] == "running")
        os.killpg(shown.process.pid, signal.SIGINT)
        assert shown.end(12) in (-signal.SIGINT, 130)
    assert "KeyboardInterrupt" in shown.screen()


def test_in_a_notebook_it_behaves(script):
    """A notebook's streams are objects without a descriptor, whose text goes to the page."""
    source = """
import sys, muster

class Stream:
    encoding = "utf-8"
    def __init__(self): self.text = ""
    def write(self, text): self.text += text; return len(text)
    def flush(self): pass
    def isatty(self): return False
    def fileno(self): raise OSError("no descriptor")

real, sys.stdout, sys.stderr = sys.stdout, Stream(), Stream()
muster.remote_parallel_map(lambda x: print("in the page", x), [1, 2], func_ram=0.25)
real.write(repr((sorted(sys.stdout.text.splitlines()), "\\x1b" in sys.stderr.text)))
"""
    assert script(source).succeed() == b"(['in the page 1', 'in the page 2'], False)"
