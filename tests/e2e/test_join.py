"""Hosts that join by a join string, over TLS and without it: with real agents, from the command that
makes the string to a call that runs there."""

import json
import stat
import time

import pytest
from harness import small_map, until


@pytest.mark.parametrize("options", [[], ["--tls"]], ids=["plain", "tls"])
def test_a_host_joins_comes_back_by_itself_and_is_expelled(own_service, options):
    service = own_service(*options)
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
    assert small_map(lambda x: x + 1, [1, 2]) == [2, 3]
    kept = agent.identity / "identity.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    credential = json.loads(kept.read_text())
    assert bool(credential["certificate"]) == bool(credential["key"]) == bool(options)
    assert agent.name in service.command("host", "list")
    # The string is used up; the credential is what brings the host back.
    agent.terminate()
    agent.wait_stopped()
    agent.start()
    agent.wait_ready()
    assert small_map(lambda x: x, [3]) == [3]
    service.command("host", "expel", agent.name)
    until("the host is cut off", lambda: not service.api.hosts(), 10)
    audit = [json.loads(line) for line in (service.state / "audit.log").read_text().splitlines()]
    told = {(line["what"], line.get("on")) for line in audit if line["result"] == "ok"}
    assert {("host_joined", agent.name), ("host_expelled", agent.name)} <= told
    logs = "".join(path.read_text() for path in service.logs())
    secrets = [agent.join.read_text().split("_")[2], credential["token"] or credential["key"]]
    assert not [secret for secret in secrets if secret in logs + json.dumps(audit)]


@pytest.mark.deadline(90)
def test_a_host_renews_its_certificate_by_itself_and_connects_with_the_new_one(own_service):
    """At half of its life. Its join string is used up, and the first certificate has ended, so that
    nothing but a new one lets it in again."""
    service = own_service("--tls", "--host-credential-life", "10s")
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
    kept = agent.identity / "identity.json"
    first = json.loads(kept.read_text())

    def renewed(old):
        new = json.loads(kept.read_text())
        return new["certificate"] != old["certificate"] and new

    second = until("its certificate is a new one", lambda: renewed(first), 30)
    assert second["expires_unix_s"] > first["expires_unix_s"]
    until("the first one has ended", lambda: time.time() > first["expires_unix_s"] + 1, 30)
    # With the time ahead that a gateway takes to start.
    until("it is renewed again", lambda: renewed(second), 30)
    service.restart_gateway(service.url.removeprefix("https://"))
    agent.wait_ready()
    assert small_map(lambda x: x + 1, [1]) == [2]
    assert agent.log.read_text().count("joined") == 1
    audit = [json.loads(line) for line in (service.state / "audit.log").read_text().splitlines()]
    assert [line["what"] for line in audit].count("host_joined") == 1
    told = {(line["what"], line.get("on"), line["result"]) for line in audit}
    assert ("host_renewed", agent.name, "ok") in told
