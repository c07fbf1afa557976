"""The real runner and what user code does to its process: prints, children, threads, closed descriptors, crashes."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from fake_agent import DEADLINE, Agent, each
from muster import _numbers, _wire
from runner_calls import begin, run, values, wait_until


def test_prints_belong_to_the_input_that_made_them(agent: Agent) -> None:
    def f(x: int) -> None:
        print(f"line {x}")
        print(f"no newline {x}", end="")
        print(f"to stderr {x}", file=sys.stderr, end="")

    begin(agent, f)
    for n, result in enumerate(run(agent, list(range(50)))):
        assert result.out == f"line {n}\nno newline {n}".encode()
        assert result.err == f"to stderr {n}".encode()


def test_bytes_of_os_write_and_subprocesses_and_c_belong_to_their_input(agent: Agent) -> None:
    def f(x: int) -> None:
        if x == 1:
            os.write(1, b"\xff\x00raw")
        elif x == 2:
            subprocess.run(["sh", "-c", "printf out; printf err >&2"], check=True)
        elif x == 3:
            ctypes.CDLL(None).printf(b"from C, no newline")
        elif x == 4:
            ctypes.CDLL(None).puts(b"puts")
            sys.stdout.write("python")

    begin(agent, f)
    results = run(agent, [0, 1, 0, 2, 0, 3, 0, 4, 0])
    assert [r.out for r in results] == [
        b"", b"\xff\x00raw", b"", b"out", b"", b"from C, no newline", b"", b"puts\npython", b"",
    ]  # fmt: skip
    assert [r.err for r in results] == [b"", b"", b"", b"err", b"", b"", b"", b"", b""]


def test_one_raw_write_among_many_quick_inputs_is_given_to_the_right_one(agent: Agent) -> None:
    def f(x: int) -> None:
        if x == 3333:
            os.write(2, b"here")

    begin(agent, f)
    results = run(agent, list(range(5000)))
    assert [r.index for r in results if r.err] == [3333]


def test_what_the_pipe_still_holds_is_counted_before_the_agent_has_read_it() -> None:
    with Agent(delay_reads=True) as agent:
        begin(agent, lambda x: print("x" * x))
        agent.send([pickle.dumps(n) for n in (10, 20, 30)])
        wait_until(lambda: agent.state()[3] == 0 and agent.state()[0] == 3)
        agent.may_read.set()
        assert [len(r.out) for r in agent.results(3)] == [11, 21, 31]


def test_prints_of_a_running_input_appear_before_it_ends(agent: Agent, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    def f(path: str) -> str:
        print("live")
        with open(path) as file:
            return file.read()

    begin(agent, f)
    agent.send([pickle.dumps(gate)])
    agent.wait_text(1, len("live\n"))
    Path(gate).write_text("go")
    assert values(agent.results(1)) == ["go"]


def test_outputs_before_a_slow_input_lie_in_pending(agent: Agent, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)

    def f(x: Any) -> Any:
        if isinstance(x, str):
            print("waiting")
            with open(x) as file:
                file.read()
        return x

    begin(agent, f)
    run(agent, [0])
    agent.send([pickle.dumps(x) for x in (1, 2, gate, 4)], first=1)
    agent.wait_text(1, len("waiting\n"))
    index, out_start, err_start, running = agent.state()
    assert (index, running) == (3, 1)
    assert (out_start, err_start) == (0, 0)
    assert [r[0] for r in agent.pending()] == [1, 2]
    assert [pickle.loads(r[4]) for r in agent.pending()] == [1, 2]
    Path(gate).write_text("")
    assert [r.index for r in agent.results(4)] == [1, 2, 3, 4]
    wait_until(lambda: agent.state()[3] == 0)
    assert agent.pending() == []


def test_a_sudden_exit_leaves_the_page_naming_the_input_and_its_forerunners_in_pending(
    agent: Agent,
) -> None:
    def f(x: int) -> int:
        print(f"start {x}", end="")
        if x == 7:
            os._exit(3)
        return x

    begin(agent, f)
    agent.send([pickle.dumps(x) for x in range(10)])
    assert agent.process.wait(DEADLINE) == 3
    index, out_start, _, running = agent.state()
    assert (index, running) == (7, 1)
    assert out_start == 7 * len("start 0")
    sent = []
    try:
        while True:
            sent += [r[0] for r in each(_wire.decode_results(agent.frame()[1]))]
    except (EOFError, ConnectionError):
        pass
    assert sorted({*sent, *[r[0] for r in agent.pending()]}) == list(range(7))


def test_prints_while_loading_belong_to_the_first_input(agent: Agent, tmp_path: Path) -> None:
    script = b"print('loading')\ndef main(x): print('running', x)\n"
    agent.begin(script, kind="source", encoding="json", entry="main")
    results = agent.run([b"1", b"2"])
    assert [r.out for r in results] == [b"loading\nrunning 1\n", b"running 2\n"]


def test_the_channel_and_the_page_are_not_inherited(agent: Agent) -> None:
    def f(_: Any) -> Any:
        listed = subprocess.run(["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE).stdout
        return listed.decode()

    begin(agent, f)
    (text,) = values(run(agent, [0]))
    assert "socket" not in text
    assert "memfd" not in text


def test_a_forked_child_that_returns_does_not_speak_for_its_parent(agent: Agent) -> None:
    def f(x: int) -> Any:
        pid = os.fork()
        if pid == 0:
            print("child", end="")
            if x == 1:
                raise SystemExit(4)
            return "child"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    begin(agent, f)
    results = run(agent, [0, 1, 0])
    assert values(results) == [0, 4, 0]
    assert [r.out for r in results] == [b"child"] * 3


def test_multiprocessing_works_inside(agent: Agent) -> None:
    def f(x: int) -> int:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return sum(pool.map(abs, range(-x, 0)))

    begin(agent, f)
    assert values(run(agent, [10, 20])) == [55, 210]


CLOSERS: Dict[str, str] = {
    "os.close(1)": "import os; os.close(1)",
    "sys.stdout.close()": "import sys; sys.stdout.close()",
    "closing 3 to 255": "import os; os.closerange(3, 256)",
    "a stdout that raises": (
        "import sys\nclass Bad:\n def write(self, s): return 0\n def flush(self): raise OSError\n"
        "sys.stdout = Bad()"
    ),
    "del sys.stdout": "import sys; del sys.stdout",
    "os.environ.clear()": "import os; os.environ.clear()",
}


@pytest.mark.parametrize("code", CLOSERS.values(), ids=list(CLOSERS))
def test_what_one_input_breaks_does_not_take_the_runner_down(agent: Agent, code: str) -> None:
    def f(x: str) -> Any:
        exec(x)
        return 1

    begin(agent, f)
    restore = "import sys; sys.stdout = sys.__stdout__; print('after')"
    assert values(run(agent, ["1", code, "2"])) == [1, 1, 1]
    (after,) = run(agent, [restore], first=3)
    assert after.out == b"after\n"


def test_a_redirect_that_stays_is_flushed(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "log"

    def f(x: Any) -> Any:
        if x:
            sys.stdout = open(x, "w")  # noqa: SIM115
        print("into the file")

    begin(agent, f)
    results = run(agent, [str(path), None])
    assert [r.out for r in results] == [b"", b""]
    assert path.read_text() == "into the file\n" * 2


def test_threads_left_behind_do_not_stop_the_end(agent: Agent) -> None:
    def f(_: Any) -> None:
        threading.Thread(target=threading.Event().wait).start()

    begin(agent, f)
    values(run(agent, [0]))
    agent.sock.close()
    assert agent.process.wait(DEADLINE) == 0


def test_a_thread_that_prints_between_batches_harms_nothing(agent: Agent) -> None:
    def f(x: Any) -> Any:
        if x:
            start = threading.Event()
            threading.Thread(target=lambda: (start.wait(0.05), print("late", flush=True))).start()

    begin(agent, f)
    values(run(agent, [1]))
    agent.wait_text(1, 5)
    (result,) = run(agent, [0], first=1)
    assert result.out == b"late\n"


def test_a_crash_in_a_run_of_numbers_leaves_the_results_before_it(agent: Agent) -> None:
    import os

    begin(agent, lambda n: os._exit(3) if n == 300 else n)
    agent.send([_numbers.item(n) for n in range(1000)])
    found: List[Any] = []
    while True:
        try:
            found += each(_wire.decode_results(agent.frame()[1]))
        except EOFError:
            break
    found += agent.pending()
    assert [record[0] for record in found] == list(range(300))
    assert [pickle.loads(record[4]) for record in found] == list(range(300))
    assert agent.state()[0] == 300


def test_a_forked_child_keeps_the_index_of_its_input(agent: Agent, tmp_path: Path) -> None:
    path = str(tmp_path / "child")

    def f(n: int) -> Any:
        import os

        if n == 0 and os.fork() == 0:
            while not os.path.exists(path):
                time.sleep(0.001)
            with open(path + ".index", "w") as file:
                file.write(os.environ["MUSTER_INPUT_INDEX"])
            os._exit(0)
        if n == 19:
            open(path, "w").close()
            os.wait()
        return os.environ["MUSTER_INPUT_INDEX"]

    begin(agent, f)
    assert values(run(agent, list(range(20)), first=95)) == [str(n) for n in range(95, 115)]
    assert (tmp_path / "child.index").read_text() == "95"
