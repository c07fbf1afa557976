"""Memory does not grow with the number of inputs or the length of the output."""

import subprocess

import pytest
from harness import Script, small_map
from harness.curl import arguments

MOST = 200 << 20
MILLION = 1_000_000
TWO_GB = 2_000_000_000


@pytest.fixture
def fresh(own_service):
    """A service that nothing else has used: its peaks are this test's."""
    service = own_service()
    service.add_agent("--cpus", "0-1", "--ram", "4GiB")
    return service


def assert_light(service):
    for daemon in (service.gateway, service.agents[0].daemon):
        peak = daemon.memory_peak()
        assert peak < MOST, f"{daemon.name} took {peak / (1 << 20):.0f} MiB at its peak"


@pytest.mark.deadline(120)
def test_a_million_small_inputs_from_a_generator(fresh, tmp_path):
    source = f"""
import resource, muster
inputs = (x for x in range({MILLION}))
outputs = muster.remote_parallel_map(lambda x: x + 1, inputs, func_ram=0.25, spinner=False)
assert outputs == list(range(1, {MILLION} + 1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    with Script.python(tmp_path, source, env=fresh.environment) as script:
        client = int(script.succeed(100))
    assert_light(fresh)
    # The list itself is about 40 MB; the inputs are never all there.
    assert client < MOST, f"the client took {client / (1 << 20):.0f} MiB"


@pytest.mark.deadline(120)
def test_outputs_that_are_not_read_yet(fresh):
    outputs = small_map(lambda x: x, (x for x in range(200_000)), generator=True)
    total = next(outputs)
    # The call goes on while nobody reads: what is not read is spilled.
    assert total + sum(outputs) == sum(range(200_000))
    assert_light(fresh)


@pytest.mark.deadline(120)
def test_two_gigabytes_of_stdout(fresh):
    command = arguments(fresh, f"/v1/run?ram=0.25&cmd=head+-c+{TWO_GB}+/dev/zero", "-X", "POST")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
        count = 0
        while data := curl.stdout.read(1 << 20):
            count += len(data)
            assert data.count(0) == len(data)
    assert curl.returncode == 0
    assert count == TWO_GB
    assert_light(fresh)


@pytest.mark.deadline(120)
def test_large_items_do_not_pile_up(fresh):
    """3 GB of inputs and outputs, 4 MiB each."""
    blob = bytes(4 << 20)
    outputs = small_map(lambda x: x, (blob for _ in range(400)), generator=True, func_ram=0.5)
    assert sum(len(output) for output in outputs) == 400 * len(blob)
    assert_light(fresh)
