"""Inputs and outputs that are very large: F12. Prints the memory of the daemons."""

import muster
import pytest
from harness import small_map

pytestmark = pytest.mark.long

MIB = 1 << 20
# What one item may have.
LIMIT = 256 * MIB


@pytest.fixture
def service(own_service):
    service = own_service()
    service.add_agent("--cpus", "0-1", "--ram", "4GiB", "--warm", "0")
    return service


@pytest.mark.deadline(120)
def test_a_hundred_mebibytes_go_in_and_out_in_bounded_memory(service):
    sizes = small_map(len, (bytes([i]) * (100 * MIB) for i in range(4)), func_ram=1)
    assert sizes == [100 * MIB] * 4
    outputs = small_map(lambda i: bytes([i]) * (100 * MIB), range(4), func_ram=1, generator=True)
    assert all(len(output) == 100 * MIB for output in outputs)
    for daemon in (service.gateway, service.agents[0].daemon):
        peak = daemon.memory_peak() / MIB
        print(f"{daemon.name}: {peak:.0f} MiB at most, for 800 MiB")
        assert peak < 600


@pytest.mark.deadline(120)
def test_an_output_of_a_gibibyte_is_refused_and_the_others_have_theirs(service):
    def run(i):
        return b"x" * (1 << 30) if i == 1 else i

    found = small_map(run, range(3), func_ram=2.5, max_parallelism=1, return_exceptions=True)
    assert [found[0], found[2]] == [0, 2]
    assert isinstance(found[1], muster.ValueTooLarge)
    assert found[1].index == 1
    assert str(256 << 20) in str(found[1]), found[1]
    assert service.agents[0].daemon.memory_peak() < 600 * MIB


@pytest.mark.deadline(120)
def test_an_input_that_is_too_large_is_refused_with_its_index(service):
    with pytest.raises(muster.MusterError) as caught:
        small_map(len, (b"x" * size for size in (1, LIMIT + 1)), func_ram=1)
    print(repr(caught.value))
    assert "inputs[1]" in str(caught.value)
    assert "256 MiB" in str(caught.value)
