"""The workloads of the simulated fleet: what is asked of the program, and what is taken from its answer."""

import json
import stat
from contextlib import contextmanager

import pytest
from muster_bench import systems
from muster_bench.systems.fleet_ import VARIANTS, Simulated
from muster_bench.workloads import WORKLOADS, fleet

PROGRAM = """#!/bin/sh
echo '{FOUND}'
echo "$@" > "$(dirname "$0")/asked"
"""


class NoMeter:
    @contextmanager
    def measure(self):
        yield


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A program that answers 1 to everything, and a way to see what it was asked."""
    names = [
        *("gateway_us_per_input", "outputs_per_s", "first_output_ms", "gateway_peak_MiB"),
        *("hosts_and_client_us_per_input", "last_slot_ms", "first_slot_ms", "gateway_cpu_s"),
        *("hosts_and_client_cpu_s", "second_call_first_slot_ms", "second_call_share"),
        *("second_call_seconds", "second_call_ideal_s"),
    ]
    program = tmp_path / "muster-fleet"
    program.write_text(PROGRAM.replace("{FOUND}", json.dumps(dict.fromkeys(names, 1))))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("MUSTER_BIN_DIR", str(tmp_path))
    return tmp_path / "asked"


@pytest.mark.parametrize(
    ("workload", "entry", "size", "flags"),
    [
        ("fleet", "muster/100-hosts", 5000, "--hosts 100 flow --inputs 5000"),
        ("fleet-slots", "muster/alone", 10, "--hosts 10 --queued-calls 0 spread"),
        (
            "fleet-shares",
            "muster/10000-calls-queued",
            100,
            "--hosts 100 --queued-calls 10000 share",
        ),
    ],
)
def test_a_workload_asks_for_its_fleet_and_finds_its_headline(asked, workload, entry, size, flags):
    system = systems.make(*entry.split("/"))
    assert isinstance(system, Simulated)
    system.start()
    system.warm_up()
    found = WORKLOADS[workload].run(system, size, NoMeter())
    system.stop()
    assert asked.read_text().strip() == flags
    assert found[WORKLOADS[workload].headline] == 1.0


def test_every_variant_of_the_fleet_is_simulated():
    for workload in (fleet.FLOW, fleet.SLOTS, fleet.SHARES):
        assert {entry.partition("/")[2] for entry in workload.entries} <= set(VARIANTS)


def test_a_program_that_is_not_built_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSTER_BIN_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match="cargo build"):
        systems.make("muster", "alone").start()
