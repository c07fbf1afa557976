"""The wall between containers and their host stands, or nothing runs."""

import os
import shutil
import subprocess

import muster
import pytest
from harness import small_map, until
from harness.service import programs


@pytest.mark.deadline(120)
def test_nothing_starts_and_nothing_is_claimed_while_the_rules_cannot_be_made(
    own_service, tmp_path, monkeypatch
):
    """The tool that makes the rules fails while a file is there."""
    broken = tmp_path / "broken"
    tool = tmp_path / "bin" / "iptables-restore"
    tool.parent.mkdir()
    real = shutil.which("iptables-restore", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    tool.write_text(f'#!/bin/sh\n[ ! -e {broken} ] || exit 1\nexec {real} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    service = own_service()
    agent = service.add_agent("--cpus", "0", "--ram", "3GiB", warm=1)
    assert small_map(len, ["abc"]) == [3]
    service.wait_idle()
    broken.touch()
    until("the agent sees it", lambda: b"network not safe" in agent.log.read_bytes(), 30)
    call = muster.remote_parallel_map(len, ["abc"], func_ram=1, background=True)
    until("it says why it waits", lambda: "firewall rules" in (call.status().waiting or ""), 20)
    assert call.status().done == 0
    broken.unlink()
    assert call.results(timeout=60) == [3]
    assert b"safe again" in agent.log.read_bytes()


def test_the_doctor_names_what_is_weak_and_what_to_do(service):
    """Of a host on which an agent runs: its rules are there."""
    assert service
    done = subprocess.run(
        [programs() / "muster-agent", "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    *findings, summary = done.stdout.splitlines()
    assert summary.endswith("weak points")
    assert "firewall rules are not" not in done.stdout
    # Each finding has a line that says what to do.
    assert len(findings) % 2 == 0
    assert all(line.startswith("    ") for line in findings[1::2])
    weak = [line for line in findings[::2] if line.startswith(("DANGER", "weak"))]
    assert bool(weak) == (done.returncode == 1)
