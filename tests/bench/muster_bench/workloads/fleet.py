"""One gateway and a simulated fleet: what an input costs, how soon a call is everywhere, how calls share.

Hosts of 100 slots each are simulated in one process (`tests/fleet`), beside the gateway, on the machine of the
benchmark; so seconds are those of gateway, hosts and client together, and the CPU of the gateway alone says what it
can do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from muster_bench.systems.fleet_ import Simulated

from .base import Workload

if TYPE_CHECKING:
    from muster_bench.meter import Meter
    from muster_bench.systems.base import System

QUEUED = "10000-calls-queued"


def flow(system: System, size: int, meter: Meter) -> dict[str, float]:
    """One call of so many inputs that take no time, over all slots of the fleet."""
    assert isinstance(system, Simulated)
    hosts = system.variant.partition("-")[0]
    with meter.measure():
        found = system.ask(["--hosts", hosts], "flow", "--inputs", str(size))
    return values(
        found,
        "gateway_us_per_input",
        "outputs_per_s",
        "first_output_ms",
        "hosts_and_client_us_per_input",
        "gateway_peak_MiB",
    )


def slots(system: System, size: int, meter: Meter) -> dict[str, float]:
    """A call over all slots of so many hosts, alone or beside calls that wait for another host."""
    assert isinstance(system, Simulated)
    with meter.measure():
        found = system.ask(fleet_of(system, size), "spread")
    return values(
        found,
        "last_slot_ms",
        "first_slot_ms",
        "gateway_cpu_s",
        "hosts_and_client_cpu_s",
        "gateway_peak_MiB",
    )


def shares(system: System, size: int, meter: Meter) -> dict[str, float]:
    """A second call beside one that has all slots of so many hosts; each input takes a second."""
    assert isinstance(system, Simulated)
    with meter.measure():
        found = system.ask(fleet_of(system, size), "share")
    return values(
        found,
        "second_call_first_slot_ms",
        "second_call_share",
        "second_call_seconds",
        "second_call_ideal_s",
        "gateway_cpu_s",
        "gateway_peak_MiB",
    )


def fleet_of(system: System, hosts: int) -> list[str]:
    """Flags of the fleet that a variant means."""
    waiting = "10000" if system.variant == QUEUED else "0"
    return ["--hosts", str(hosts), "--queued-calls", waiting]


def values(found: dict[str, Any], *names: str) -> dict[str, float]:
    """The named values of what a scenario found, in this order."""
    return {name: float(found[name]) for name in names}


FLOW = Workload(
    name="fleet",
    title="{size} inputs through one gateway to a simulated fleet: the gateway's CPU for each",
    headline="gateway_us_per_input",
    better="lower",
    goal="1,000,000 outputs/s under 2 cores, and 1 GB, with 1,000 hosts and 100,000 slots; the same for all sizes",
    sizes=(10_000, 100_000, 1_000_000, 10_000_000),
    quick_size=1_000_000,
    entries=("muster/1000-hosts", "muster/100-hosts", "muster/10-hosts"),
    run=flow,
    repeats=1,
)

SLOTS = Workload(
    name="fleet-slots",
    title="A call over all slots of {size} simulated hosts of 100: until it has begun on the last",
    headline="last_slot_ms",
    better="lower",
    goal="under 1 s with 1,000 hosts, also with 10,000 calls queued",
    sizes=(10, 100, 1_000),
    quick_size=100,
    entries=("muster/alone", f"muster/{QUEUED}"),
    not_quick=(f"muster/{QUEUED}",),
    run=slots,
    repeats=1,
)

SHARES = Workload(
    name="fleet-shares",
    title="A second call beside one that has all slots of {size} simulated hosts: until it has begun",
    headline="second_call_first_slot_ms",
    better="lower",
    goal="within the time of an input (1 s), and half of the slots",
    sizes=(10, 100),
    quick_size=100,
    entries=("muster/alone", f"muster/{QUEUED}"),
    not_quick=(f"muster/{QUEUED}",),
    run=shares,
    repeats=1,
)
