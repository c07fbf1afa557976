"""Hosts that join by a join string, over TLS and without it: with real agents, from the command that
makes the string to a call that runs there."""

import json
import stat
import subprocess

import pytest
from harness import small_map, until
from harness.service import programs


def _command(service, *arguments):
    done = subprocess.run(
        [programs() / "muster-gateway", *arguments, "--state-dir", service.state],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("options", [[], ["--tls"]], ids=["plain", "tls"])
def test_a_host_joins_comes_back_by_itself_and_is_expelled(own_service, tmp_path, options):
    service = own_service(*options)
    string = tmp_path / "join"
    string.write_text(_command(service, "join-string", "create") + "\n")
    identity = tmp_path / "identity"
    service.join_with(string)
    agent = service.add_agent(
        "--cpus", "0", "--ram", "1GiB", "--warm", "0", "--identity-dir", identity
    )
    assert small_map(lambda x: x + 1, [1, 2]) == [2, 3]
    kept = identity / "identity.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    credential = json.loads(kept.read_text())
    assert bool(credential["certificate"]) == bool(credential["key"]) == bool(options)
    assert agent.name in _command(service, "host", "list")
    # The string is used up; the credential is what brings the host back.
    agent.terminate()
    agent.wait_stopped()
    agent.start()
    agent.wait_ready()
    assert small_map(lambda x: x, [3]) == [3]
    _command(service, "host", "expel", agent.name)
    until("the host is cut off", lambda: not service.api.hosts(), 10)
    audit = [json.loads(line) for line in (service.state / "audit.log").read_text().splitlines()]
    told = {(line["what"], line.get("on")) for line in audit if line["result"] == "ok"}
    assert {("host_joined", agent.name), ("host_expelled", agent.name)} <= told
    logs = "".join(path.read_text() for path in service.logs())
    secrets = [string.read_text().split("_")[2], credential["token"] or credential["key"]]
    assert not [secret for secret in secrets if secret in logs + json.dumps(audit)]
