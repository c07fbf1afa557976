"""What is written inside appears at the client: every byte, in order, attributed, and while it
runs."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest
from harness import Script, small_map


@pytest.fixture
def printed(monkeypatch):
    """Runs a call with `sys.stdout` and `sys.stderr` replaced, and gives what was written to each,
    as bytes."""

    def run(function, inputs, **options):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            outputs = small_map(function, inputs, **options)
        for stream in streams:
            stream.flush()
        return outputs, streams[0].buffer.getvalue(), streams[1].buffer.getvalue()

    return run


@pytest.mark.smoke
def test_stdout_and_stderr_come_out_on_the_clients_own(service, printed):
    def run(x):
        print("out", x)
        print("err", x, file=sys.stderr)
        return x

    outputs, out, err = printed(run, [1, 2, 3], max_parallelism=1)
    assert outputs == [1, 2, 3]
    assert out == b"out 1\nout 2\nout 3\n"
    assert err == b"err 1\nerr 2\nerr 3\n"


@pytest.mark.parametrize(
    "data",
    [
        b"no newline at the end",
        b"",
        b"\n",
        b"\n\n a \n\n\n",
        b"trailing spaces  \r\n\ttabs\r",
        b"a\0b\n",
        b"\xff\xfe not UTF-8 \x80\n",
        "häß → 🎉\n".encode(),
        b"\x1b[31mred\x1b[0m\n",
        b"x" * (1 << 20) + b"\n" + b"y" * (1 << 20),
        b"[stdout] 0: looks like a marker\n::muster::\n\x00\x01\x02\x03\n",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_bytes_arrive_exactly(service, printed, data):
    def run(_):
        sys.stdout.buffer.write(data)
        sys.stderr.buffer.write(data[::-1])

    _, out, err = printed(run, [0])
    assert out == data
    assert err == data[::-1]


def test_a_hundred_thousand_lines_of_one_input_all_arrive_in_order(service, printed):
    def run(_):
        for number in range(100_000):
            print("line", number)

    _, out, _ = printed(run, [0])
    assert out == b"".join(b"line %d\n" % number for number in range(100_000))


def test_prints_of_threads_arrive(service, printed):
    def run(_):
        threads = [
            threading.Thread(
                target=lambda n=n: [sys.stdout.write(f"thread {n} line {i}\n") for i in range(200)]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    _, out, _ = printed(run, [0])
    lines = out.decode().splitlines()
    assert sorted(lines) == sorted(f"thread {n} line {i}" for n in range(4) for i in range(200))


def test_what_subprocesses_and_c_code_write_arrives_in_its_place(service, printed):
    def run(x):
        import ctypes

        print("python", x)
        sys.stdout.flush()
        subprocess.run(["sh", "-c", f"echo shell {x}; echo shell error {x} >&2"], check=True)
        ctypes.CDLL(None).printf(b"c %d\n", ctypes.c_int(x))
        os.write(1, b"descriptor\n")

    _, out, err = printed(run, [1, 2], max_parallelism=1)
    for x in (1, 2):
        # C's buffer is its own: its line comes at the latest when the input ends.
        assert {b"python %d" % x, b"shell %d" % x, b"c %d" % x} <= set(out.splitlines())
    lines = out.splitlines()
    assert lines.index(b"c 1") < lines.index(b"python 2"), (
        "the C library's buffer was not written before the next input"
    )
    assert out.count(b"descriptor\n") == 2
    assert err == b"shell error 1\nshell error 2\n"


def test_what_a_child_writes_after_being_forked_arrives_once(service, printed):
    def run(_):
        print("before the fork")
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            print("in the child", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print("after")

    _, out, _ = printed(run, [0])
    assert out == b"before the fork\nin the child\nafter\n"


def test_lines_of_different_inputs_are_never_mixed_within_a_line(service, printed):
    def run(x):
        for _ in range(300):
            for _ in range(10):
                sys.stdout.write(str(x))
                sys.stdout.flush()
            sys.stdout.write("\n")
        sys.stdout.write("end without newline" + str(x))

    _, out, _ = printed(run, range(4), func_cpu=0.5)
    text = out.decode()
    for x in range(4):
        text = text.replace(f"end without newline{x}", "")
    lines = [line for line in text.split("\n") if line]
    assert sorted(lines) == sorted(str(x) * 10 for x in range(4) for _ in range(300))


def test_nothing_is_lost_at_the_end_of_a_call(service, printed):
    def run(x):
        sys.stdout.write(f"<{x}>")

    for _ in range(5):
        _, out, _ = printed(run, range(200))
        assert sorted(out.decode().replace("><", "> <").split()) == sorted(
            f"<{x}>" for x in range(200)
        )


@pytest.mark.smoke
def test_a_print_is_at_the_client_while_its_function_still_runs(script):
    """The function never ends: what is printed can only come before its end."""
    source = """
import time, muster

def run(_):
    print("the first line")
    time.sleep(600)

muster.remote_parallel_map(run, [1], func_ram=0.25, spinner=False)
"""
    running = script(source)
    running.wait_for(b"the first line\n")
    running.interrupt()
    assert running.end() != 0


def test_a_redirected_stdout_gets_the_prints(service):
    from contextlib import redirect_stdout

    with redirect_stdout(io.StringIO()) as text:
        small_map(print, ["to a StringIO"])
    assert text.getvalue() == "to a StringIO\n"


def test_a_closed_or_missing_stdout_does_not_stop_the_call(script):
    source = """
import sys, muster
sys.stdout = None
sys.stderr.write(repr(muster.remote_parallel_map(print, ["lost"], func_ram=0.25, spinner=False)))
"""
    running = script(source)
    running.succeed()
    assert running.stderr == b"[None]"


def test_prints_through_a_broken_pipe_end_the_client_as_python_does(service, tmp_path):
    source = """
import signal, sys, muster

def run(x):
    for i in range(100000):
        print(i)

muster.remote_parallel_map(run, [0], func_ram=0.25, spinner=False)
"""
    (tmp_path / "noisy.py").write_text(source)
    command = f"{sys.executable} noisy.py | head -n 1"
    with Script(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, env=service.environment
    ) as script:
        assert script.end() != 0
        assert script.stdout == b"0\n"
        assert b"BrokenPipeError" in script.stderr


def test_each_print_is_attributed_to_its_input_and_comes_before_its_output(service):
    source = """
import sys
def run(x):
    for i in range(50):
        print(f"{x}:{i}")
        print(x, file=sys.stderr)
"""
    body = json.dumps(
        {"source": source, "entry": "run", "inputs": list(range(20)), "ram": 0.25}
    ).encode()
    status, _, answer = service.api.request(
        "POST", "/v1/calls", body, {"Content-Type": "application/json"}
    )
    assert status == 200
    texts, done = {}, set()
    for line in answer.splitlines():
        event = json.loads(line)
        if event["type"] in ("stdout", "stderr"):
            assert event["index"] not in done, "a print after its input's output"
            key = event["index"], event["type"]
            texts[key] = texts.get(key, "") + event["text"]
        elif event["type"] == "output":
            done.add(event["index"])
    assert done == set(range(20))
    for x in range(20):
        assert texts[x, "stdout"] == "".join(f"{x}:{i}\n" for i in range(50))
        assert texts[x, "stderr"] == f"{x}\n" * 50


def test_random_writes_of_many_inputs_arrive_whole(service, printed):
    """Random sizes on both streams from a printed seed, against what is computed here."""
    seed = random.randrange(1 << 30)

    def chunks(x):
        numbers = random.Random(seed + x)
        return [
            (numbers.choice((1, 2)), bytes([65 + x % 26]) * numbers.randrange(1, 5000) + b"\n")
            for _ in range(numbers.randrange(1, 40))
        ]

    def run(x):
        for stream, data in chunks(x):
            target = sys.stdout if stream == 1 else sys.stderr
            target.buffer.write(data)

    _, *written = printed(run, range(40))
    for stream, got in enumerate(written, start=1):
        wanted = [line for x in range(40) for number, line in chunks(x) if number == stream]
        assert sorted(got.splitlines(keepends=True)) == sorted(wanted), (
            f"stream {stream}, seed {seed}"
        )


def test_a_function_killed_while_it_prints_keeps_whole_what_it_wrote(service, printed):
    def run(_):
        for number in range(5000):
            os.write(1, b"%d\n" % number)
        os.kill(os.getpid(), signal.SIGKILL)

    outputs, out, _ = printed(run, [0], return_exceptions=True)
    assert isinstance(outputs[0], Exception)
    assert out == b"".join(b"%d\n" % number for number in range(5000))
