"""Calls that choose how their containers are started, from what the operator of each host allows."""

import muster
import pytest
from harness import held, small_map
from harness.curl import as_json, curl
from harness.docker import inspect

# Every engine has it beside `runc`, under this name.
OTHER = "io.containerd.runc.v2"


def test_a_call_runs_where_its_runtime_is_allowed_and_nowhere_else(own_service):
    service = own_service()
    plain = service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "1")
    allowing = service.add_agent(
        "--cpus", "1", "--ram", "1GiB", "--warm", "1", "--allow-runtime", OTHER
    )
    assert OTHER in allowing.status()["runtimes"]
    with held(lambda x: x, [1], runtime=OTHER) as outputs:
        assert outputs == [1]
        # One is the input's; what is kept warm for the next such call is another.
        started = [inspect(name)["HostConfig"]["Runtime"] for name in allowing.containers()]
        assert OTHER in started
        assert (allowing.busy(), plain.busy()) == (1, 0)
    service.wait_idle()
    # The same by HTTP, and on both hosts where nothing is asked for.
    line = f"/v1/run?ram=0.25&runtime={OTHER}&arg=echo&arg=there"
    assert curl(service, line, "-X", "POST").body == b"there\n"
    assert small_map(lambda x: x, [1, 2]) == [1, 2]

    with pytest.raises(muster.NoHosts, match=f"kata.*{OTHER}") as caught:
        small_map(lambda x: x, [1], runtime="kata")
    assert caught.value.code == "no_such_runtime"
    call = {"command": ["true"], "runtime": "--privileged x", "ram": 0.25}
    assert curl(service, "/v1/calls", *as_json(call)).status == 400
