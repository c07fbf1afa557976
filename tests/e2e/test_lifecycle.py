"""Containers belong to one call; daemons stop cleanly; what a crash leaves is removed by the
successor."""

import os
import platform

import pytest
from harness import Script, small_map, until
from harness.docker import docker, inspect
from harness.leftovers import cgroups
from harness.service import programs, runner_folder


def test_a_container_belongs_to_one_call_and_is_removed_after_it(service):
    def node(_):
        return platform.node()

    seen = set()
    for _ in range(3):
        nodes = set(small_map(node, range(4)))
        assert not nodes & seen, "a container served two calls"
        seen |= nodes
        until(
            "its containers are removed",
            lambda nodes=nodes: not any(inspect(name) for name in nodes),
            10,
        )


@pytest.mark.smoke
def test_what_a_call_leaves_in_a_container_is_not_there_for_the_next(service):
    def leave(_):
        found = os.path.exists("/tmp/mark"), os.environ.get("MARK"), hasattr(os, "mark")
        open("/tmp/mark", "w").close()
        os.environ["MARK"], os.mark = "1", 1
        return found

    for _ in range(3):
        assert small_map(leave, [0], max_parallelism=1) == [(False, None, False)]


def test_a_worker_runs_inputs_of_one_call_one_after_another_in_one_process(service):
    def count(_):
        os.counted = getattr(os, "counted", 0) + 1
        return os.getpid(), os.counted

    answers = small_map(count, range(10), max_parallelism=1)
    assert [number for _, number in answers] == list(range(1, 11))
    assert len({pid for pid, _ in answers}) == 1


def test_warm_workers_are_kept_and_made_anew(service):
    agent = service.agents[0]
    agent.wait_ready(warm=1)
    before = set(agent.containers())
    small_map(lambda x: x, [1])
    agent.wait_ready(warm=1)
    until("a used one is replaced", lambda: set(agent.containers()) - before, 20)


def test_processes_a_function_leaves_behind_end_with_its_container(service):
    """A daemon of the function's own, out of its session and process group."""

    def leave(_):
        import subprocess

        child = subprocess.Popen(
            ["sh", "-c", "trap '' TERM HUP; exec sleep 54321"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        return child.pid

    small_map(leave, [0])
    service.wait_idle()

    def still_there():
        commands = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    commands.append(file.read())
            except OSError:
                continue
        return b"sleep\x0054321\0" in commands

    until("the process is gone", lambda: not still_there(), 10)


def _blocked(service, tmp_path):
    """A client whose call runs for ever; returns it and the container its function is in."""
    source = """
import platform, time, muster

def run(_):
    print("in", platform.node())
    time.sleep(600)

muster.remote_parallel_map(run, [0], func_ram=0.25, spinner=False)
"""
    client = Script.python(tmp_path, source, env=service.environment)
    client.wait_for(b"\n")
    return client, client.stdout.split()[1].decode()


@pytest.mark.deadline(90)
def test_an_agent_that_was_killed_leaves_nothing_once_it_is_started_again(own_service, tmp_path):
    service = own_service("--grace", "1s")
    agent = service.add_agent("--cpus", "0-1", "--ram", "2GiB", warm=1)
    client, node = _blocked(service, tmp_path)
    with client:
        left = set(agent.containers())
        assert len(left) >= 2, "a used one and a warm one"
        agent.kill()
        assert inspect(node), "nobody was there to remove it"
        agent.start()
        agent.wait_ready()
        until("what the killed one left is removed", lambda: not left & set(agent.containers()), 30)
        assert not inspect(node)
    assert small_map(lambda x: x, [1]) == [1]


@pytest.mark.deadline(60)
def test_what_is_nobodys_is_removed_on_a_timer_too(leftover):
    until("the container that no worker owns is removed", lambda: not inspect(leftover), 45)


def test_without_warm_workers_nothing_waits_for_a_call(own_service):
    service = own_service()
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
    assert small_map(lambda x: x, [1]) == [1]
    until("its only worker is gone", lambda: agent.containers() == [], 10)


@pytest.mark.deadline(60)
def test_sigterm_while_a_call_runs_stops_the_agent_cleanly(own_service, tmp_path):
    service = own_service("--stop-grace", "1s")
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--grace", "1s")
    client, node = _blocked(service, tmp_path)
    with client:
        agent.terminate()
        agent.wait_stopped()
        assert not inspect(node)
        agent.assert_nothing_left()
        until("the gateway knows", lambda: service.api.hosts() == [], 10)


@pytest.mark.deadline(60)
def test_sigterm_while_a_call_runs_stops_the_gateway_cleanly(own_service, tmp_path):
    service = own_service("--stop-grace", "1s")
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB")
    client, node = _blocked(service, tmp_path)
    with client:
        service.gateway.terminate()
        assert service.gateway.wait(15) == 0
        # Its calls are gone with it: the host does not run them for ever.
        agent.terminate()
        agent.wait_stopped()
        assert not inspect(node)


def test_a_second_signal_ends_a_daemon_at_once(own_service, tmp_path):
    service = own_service()
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--grace", "30s")
    client, _ = _blocked(service, tmp_path)
    with client:
        agent.terminate()
        until("it is stopping", lambda: b"stopping" in agent.log.read_bytes(), 10)
        agent.terminate()
        agent.daemon.wait(10)
    # Its client is dead, but within the grace period the call would run again, and be waited for.
    service.api.cancel(service.api.calls()[0]["id"])
    agent.start()
    agent.wait_ready()


def test_wrong_settings_are_all_reported_with_exit_code_64(tmp_path):
    arguments = [
        programs() / "muster-agent",
        "--runner-dir",
        tmp_path,
        "--ram",
        "lots",
        "--cpus",
        "x",
    ]
    with Script(arguments, cwd=tmp_path) as agent:
        assert agent.end(10) == 64
        assert b"--ram" in agent.stderr
        assert b"--cpus" in agent.stderr
    with Script(
        [programs() / "muster-gateway", "--insecure-listen", "--tls", "--state-dir", tmp_path],
        cwd=tmp_path,
    ) as it:
        assert it.end(10) == 64
        assert b"--insecure-listen" in it.stderr


def test_a_second_agent_of_the_same_name_is_refused_and_touches_nothing(own_service, tmp_path):
    """Or it would take the first one's containers for leftovers."""
    service = own_service()
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "1", warm=1)
    before = agent.containers()
    arguments = [
        programs() / "muster-agent",
        "--join-file", agent.join, "--identity-dir", agent.identity,
        "--runner-dir", runner_folder(),
        "--state-dir", tmp_path / "twin", "--host-name", agent.name,
    ]  # fmt: skip
    with Script(arguments, cwd=tmp_path) as twin:
        assert twin.end(10) != 0
        assert agent.name in (twin.stderr + twin.stdout).decode()
    assert set(before) <= set(agent.containers())
    assert small_map(lambda x: x, [1]) == [1]


def test_a_second_gateway_on_one_state_folder_does_not_start_and_the_first_goes_on(
    own_service, tmp_path
):
    service = own_service()
    service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
    call = small_map(lambda x: x, [1], background=True)
    arguments = [
        programs() / "muster-gateway", "--state-dir", service.state, "--listen", "127.0.0.1:0",
    ]  # fmt: skip
    with Script(arguments, cwd=tmp_path) as second:
        assert second.end(20) == 70
        assert str(service.state) in second.stderr.decode()
    assert call.results(timeout=60) == [1], "the store still is the first one's"
    assert small_map(lambda x: x, [2], background=True).results(timeout=60) == [2]


def test_a_lost_gateway_is_dialled_again(own_service):
    service = own_service()
    agent = service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
    assert small_map(lambda x: x, [1]) == [1]
    port = service.url.rpartition(":")[2]
    service.restart_gateway(f"127.0.0.1:{port}")
    until("the agent is back", lambda: agent.status(), 30)
    assert small_map(lambda x: x, [2]) == [2]


def test_cgroups_of_a_call_are_gone_after_it(service):
    small_map(lambda x: x, [1])
    service.wait_idle()
    agent = service.agents[0]

    def only_the_containers():
        ids = docker("ps", "--no-trunc", "--quiet", "--filter", f"label={agent.label}").split()
        below = {path.rpartition("/")[2] for path in cgroups(agent.name)} - {agent.name}
        return all(any(identity in name for identity in ids) for name in below)

    until("only running containers have cgroups", only_the_containers, 10)
