"""What users count on when they print: one order with every other writer, nothing lost in a crash,
an ordinary `sys.stdout`, and lines that do not wait for each other."""

import ctypes
import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
from harness import small_map


def test_all_writers_of_a_process_share_one_order_without_a_flush(service, capsysbinary):
    def run(_):
        libc = ctypes.CDLL(None)
        asked, answered = os.pipe(), os.pipe()
        # It lives since before the first line, so that no fork tells that it is going to write.
        child = os.fork()
        if child == 0:
            while os.read(asked[0], 1) == b"?":
                os.write(1, b"child\n")
                os.write(answered[1], b"!")
            os._exit(0)
        for _ in range(3):
            print("python")
            os.write(1, b"descriptor\n")
            print("python")
            libc.write(1, b"c call\n", 7)
            print("python")
            libc.puts(b"c stdio")
            print("python")
            with open("/dev/stdout", "wb", buffering=0) as other:
                other.write(b"opened\n")
            print("python")
            subprocess.run(["echo", "subprocess"], check=True)
            print("python")
            os.system("echo system")
            print("python")
            os.write(asked[1], b"?")
            os.read(answered[0], 1)
        os.write(asked[1], b".")
        os.waitpid(child, 0)

    small_map(run, [0])
    others = [b"descriptor", b"c call", b"c stdio", b"opened", b"subprocess", b"system", b"child"]
    expected = [line for other in others for line in (b"python", other)] * 3
    assert capsysbinary.readouterr().out.splitlines() == expected


def test_what_was_printed_before_a_fork_comes_once(service, capsysbinary):
    def run(_):
        for number in range(3):
            print("before", number)
            child = os.fork()
            if child == 0:
                print("child", number)
                os._exit(0)
            os.waitpid(child, 0)

    small_map(run, [0])
    expected = b"".join(b"before %d\nchild %d\n" % (number, number) for number in range(3))
    assert capsysbinary.readouterr().out == expected


@pytest.mark.parametrize("death", ["exit", "kill", "segfault"])
def test_a_line_printed_right_before_a_death_is_not_lost(service, capsysbinary, death):
    def run(x):
        for number in range(1000):
            print("line", number)
        print("last words", file=sys.stderr)
        print("last")
        if death == "exit":
            os._exit(3)
        if death == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.string_at(0)

    (error,) = small_map(run, [0], return_exceptions=True)
    assert isinstance(error, Exception)
    out, err = capsysbinary.readouterr()
    assert out == b"".join(b"line %d\n" % number for number in range(1000)) + b"last\n"
    assert err == b"last words\n"


def test_stdout_is_an_ordinary_stream(service, capsysbinary):
    def run(_):
        out = sys.stdout
        facts = {
            "type": isinstance(out, io.TextIOWrapper),
            "buffer": isinstance(out.buffer, io.BufferedWriter),
            "raw": isinstance(out.buffer.raw, io.FileIO),
            "fileno": out.fileno(),
            "isatty": out.isatty(),
            "encoding": out.encoding,
            "line_buffering": out.line_buffering,
            "writable": out.writable(),
            "written": out.write("text\n"),
            "bytes": out.buffer.write(b"bytes\n"),
            "same": sys.__stdout__ is out,
        }
        print("after the bytes")
        with redirect_stdout(io.StringIO()) as text:
            print("redirected")
        facts["redirected"] = text.getvalue()
        out.reconfigure(line_buffering=False)
        print("held until the input ends")
        os.write(1, b"first\n")
        out.flush()
        out.reconfigure(line_buffering=True)
        print("closing", flush=True)
        out.close()
        facts["closed"] = out.closed
        return facts

    facts, again = small_map(run, [0, 1], max_parallelism=1)
    assert facts == again
    assert facts == {
        "type": True,
        "buffer": True,
        "raw": True,
        "fileno": 1,
        "isatty": False,
        "encoding": "utf-8",
        "line_buffering": True,
        "writable": True,
        "written": 5,
        "bytes": 6,
        "same": True,
        "redirected": "redirected\n",
        "closed": True,
    }
    expected = b"text\nbytes\nafter the bytes\nfirst\nheld until the input ends\nclosing\n"
    assert capsysbinary.readouterr().out == expected * 2


def test_lines_are_shown_one_by_one_and_in_bursts_while_their_function_runs(script):
    """The function never ends: what is printed can only come before its end."""
    source = """
import sys, time, muster

def run(_):
    for burst in (1, 1, 2, 50, 1, 3000, 1):
        for line in range(burst):
            print("burst", burst, "line", line)
        print("end of a burst", file=sys.stderr)
        time.sleep(0.05)
    print("the last line")
    time.sleep(600)

muster.remote_parallel_map(run, [1], func_ram=0.25, spinner=False)
"""
    running = script(source)
    running.wait_for(b"the last line\n")
    lines = running.stdout.splitlines()
    bursts = (1, 1, 2, 50, 1, 3000, 1)
    assert lines == [b"burst %d line %d" % (n, i) for n in bursts for i in range(n)] + [
        b"the last line"
    ]
    running.interrupt()
    assert running.end() != 0
