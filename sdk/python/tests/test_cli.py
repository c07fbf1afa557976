"""The command `muster`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fake_gateway import say
from muster import remote_parallel_map
from muster._cli import main


def test_a_call_can_be_listed_followed_and_cancelled(gateway, capsys):
    call = remote_parallel_map(
        lambda x: say(b"printed %d\n" % x), [7], background=True, name="mine"
    )
    assert main(["wait", call.id]) == 0
    assert capsys.readouterr().out == f"{call.id} succeeded 1/1\n"
    assert main(["calls"]) == 0
    assert capsys.readouterr().out.split() == [
        *("call", "state", "done", "total", "name"),
        *(call.id, "succeeded", "1", "1", "mine"),
    ]
    assert main(["logs", call.id]) == 0
    assert capsys.readouterr().out == "printed 7\n"
    assert main(["cancel", call.id]) == 0
    assert main(["--url", gateway.url, "status", call.id]) == 0
    assert main(["hosts"]) == 0
    listed = capsys.readouterr().out
    assert "fake-host" in listed
    assert "data:ro out:rw:absent" in listed
    assert main(["drain", "fake-host"]) == 0
    assert main(["drain", "--undo", "fake-host"]) == 0
    assert capsys.readouterr().out == "fake-host draining\nfake-host ready\n"


def test_waiting_for_a_call_that_fails_fails(gateway, capsys):
    call = remote_parallel_map(lambda x: 1 / x, [0], background=True)
    assert main(["wait", call.id]) == 1
    assert "failed" in capsys.readouterr().out


def test_an_error_is_one_line_and_exit_code_one(gateway, capsys):
    assert main(["status", "nosuchcall"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("muster: ")
    assert "nosuchcall" in err
    with pytest.raises(SystemExit):
        main(["no-such-command"])


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "muster", "--help"], capture_output=True, check=True, timeout=30
    )
    assert b"muster" in done.stdout
