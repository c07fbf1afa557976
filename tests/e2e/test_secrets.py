"""Secrets reach the functions that are to have them, and are nowhere else; nor is `env`."""

import contextlib
import json
import os
import subprocess
import uuid
from pathlib import Path

import muster
import pytest
from harness import held, small_map
from harness.curl import as_json, curl
from harness.docker import inspect

# Drawn, as the text of this file travels with its functions.
VALUE = f"e2e-secret-{uuid.uuid4().hex}"
PLAIN = f"e2e-variable-{uuid.uuid4().hex}"
PAYLOAD = f"e2e-payload-{uuid.uuid4().hex}"


@pytest.fixture
def secret(service):
    """The name of a secret of the shared service's owner."""
    assert service
    muster.secrets.set("E2E_SECRET", VALUE)
    yield "E2E_SECRET"
    muster.secrets.delete("E2E_SECRET")


@pytest.mark.smoke
def test_a_function_has_its_secrets_and_no_others(secret):
    muster.secrets.set("E2E_OTHER", "x")
    assert muster.secrets.names() == ["E2E_OTHER", secret]

    def look(name):
        child = subprocess.run(["env"], capture_output=True, check=True).stdout.decode()
        return os.environ.get(name), f"{name}=" in child

    found = small_map(look, [secret, "E2E_OTHER"], secrets=[secret])
    assert found == [(VALUE, True), (None, False)]
    muster.secrets.delete("E2E_OTHER")
    # Set anew, the next call has the new value.
    muster.secrets.set(secret, "new")
    assert small_map(look, [secret], secrets=[secret]) == [("new", True)]


def test_commands_and_source_have_secrets_too(service, secret):
    line = f"/v1/run?ram=0.25&secret={secret}&cmd=printf%20%25s%20%24{secret}"
    assert curl(service, line, "-X", "POST").body.decode() == VALUE
    source = "import os\ndef f(name):\n    return os.environ[name]\n"
    call = {"source": source, "entry": "f", "inputs": [secret], "secrets": [secret], "ram": 0.25}
    events = curl(service, "/v1/calls", *as_json(call)).events
    assert [event["value"] for event in events if event["type"] == "output"] == [VALUE]


def test_secrets_are_set_listed_used_and_deleted_by_plain_http(service):
    def listed():
        return [secret["name"] for secret in curl(service, "/v1/secrets").json["secrets"]]

    one, put = "/v1/secrets/E2E_BY_HTTP", ("-X", "PUT", *as_json({"value": VALUE}))
    run = "/v1/run?ram=0.25&secret=E2E_BY_HTTP&cmd=printf%20%25s%20%24E2E_BY_HTTP"
    assert [curl(service, one, *put).status for _ in range(2)] == [201, 200]
    assert listed() == ["E2E_BY_HTTP"]
    assert VALUE.encode() not in curl(service, "/v1/secrets").body
    assert curl(service, run, "-X", "POST").body.decode() == VALUE
    read = small_map(lambda name: os.environ[name], ["E2E_BY_HTTP"], secrets=["E2E_BY_HTTP"])
    assert read == [VALUE]
    assert curl(service, one, "-X", "DELETE").status == 204
    assert listed() == []
    for refused in (curl(service, run, "-X", "POST"), curl(service, one, "-X", "DELETE")):
        assert (refused.status, refused.json["code"]) == (404, "unknown_secret")
    with pytest.raises(muster.SecretError, match="E2E_BY_HTTP") as caught:
        small_map(len, ["a"], secrets=["E2E_BY_HTTP"])
    assert caught.value.code == "unknown_secret"


def test_children_may_name_secrets_of_their_owner(secret):
    def parent(name):
        def child(name):
            return os.environ[name]

        return muster.remote_parallel_map(child, [name], func_ram=0.25, secrets=[name])

    assert small_map(parent, [secret]) == [[VALUE]]


def test_a_function_cannot_change_secrets(secret):
    def tries(name):
        refused = []
        for action in (
            muster.secrets.names,
            lambda: muster.secrets.delete(name),
            lambda: muster.secrets.set(name, "mine"),
        ):
            try:
                action()
            except muster.ApiError as error:
                refused.append(error.status)
        return refused

    (refused,) = small_map(tries, [secret])
    assert len(refused) == 3
    assert set(refused) <= {403, 404}
    assert muster.secrets.names() == [secret]


def test_nobody_else_has_or_sees_a_secret(service, secret):
    other = service.command("token", "create", "--owner", "somebody-else")
    assert muster.secrets.names(token=other) == []
    with pytest.raises(muster.SecretError, match=secret) as caught:
        small_map(len, ["a"], secrets=[secret], token=other)
    assert caught.value.code == "unknown_secret"
    with pytest.raises(muster.SecretError):
        muster.secrets.delete(secret, token=other)
    muster.secrets.set(secret, "theirs", token=other)
    assert small_map(lambda name: os.environ[name], [secret], secrets=[secret]) == [VALUE]
    muster.secrets.delete(secret, token=other)


def test_a_secret_that_is_not_there_is_said_before_anything_runs(service, secret):
    with pytest.raises(muster.SecretError, match=r"E2E_ABSENT.*muster\.secrets\.set") as caught:
        small_map(len, ["a"], secrets=[secret, "E2E_ABSENT"])
    assert caught.value.code == "unknown_secret"
    with pytest.raises(muster.SecretError, match="E2E_ABSENT"):
        muster.secrets.delete("E2E_ABSENT")


def test_neither_secrets_nor_env_are_in_docker_inspect(service, secret):
    (agent,) = service.agents

    def look(_):
        return os.environ[secret], os.environ["E2E_PLAIN"]

    with held(look, [1], secrets=[secret], env={"E2E_PLAIN": PLAIN}) as found:
        assert found == [(VALUE, PLAIN)]
        seen = [found for found in map(inspect, agent.containers()) if found]
        assert seen
        for container in seen:
            said = json.dumps(container)
            assert VALUE not in said
            assert PLAIN not in said
            # Nor in what other processes of the host see of the container's own.
            assert VALUE.encode() not in began_with(container["State"]["Pid"])


def began_with(init):
    """The environment and arguments that a container's processes began with; nothing once gone."""
    said = b""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        for pid in (init, *children):
            for name in ("environ", "cmdline"):
                said += Path(f"/proc/{pid}/{name}").read_bytes()
    return said


def test_neither_secrets_nor_env_are_written_in_the_clear(own_service, capfd):
    """Not in the store of a background call, nor in logs, the audit log, records, events, errors. What
    is pickled is in that store, and in no log."""
    service = own_service()
    service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--warm", "0")
    muster.secrets.set("E2E_SECRET", VALUE)

    def fails(x):
        if x:
            raise LookupError("no such thing")
        return len(os.environ["E2E_SECRET"])

    call = small_map(
        fails, ["", PAYLOAD], secrets=["E2E_SECRET"], env={"E2E_PLAIN": PLAIN},
        background=True, return_exceptions=True,
    )  # fmt: skip
    with pytest.raises(LookupError) as caught:
        call.results(timeout=60)
    assert call.status().done == 2
    assert call.status().failed == 1
    assert not service.api.call(call.id)["error"]
    seen = [json.dumps(service.api.call(call.id)), str(caught.value), *capfd.readouterr()]
    for part in seen:
        assert VALUE not in part
        assert PLAIN not in part
    service.restart_gateway(service.url.removeprefix("http://"))
    files = [path for path in service.folder.rglob("*") if path.is_file()]
    assert {"secrets.sealed", "audit.log", "gateway.log"} <= {path.name for path in files}
    logs = [path for path in files if ".log" in path.name]
    assert len(logs) >= 3
    assert not [path for path in logs if PAYLOAD.encode() in path.read_bytes()]
    for path in files:
        text = path.read_bytes()
        assert VALUE.encode() not in text, path
        assert PLAIN.encode() not in text, path
    assert (service.folder / "gateway.key").stat().st_mode & 0o777 == 0o600
