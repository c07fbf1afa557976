"""Which jobs run."""

from muster_bench.plan import QUICK_SYSTEMS, Choice, jobs, rotated
from muster_bench.systems import MODULES
from muster_bench.workloads import WORKLOADS


def test_every_workload_measures_muster_and_known_systems():
    for workload in WORKLOADS.values():
        systems = {entry.partition("/")[0] for entry in workload.entries}
        assert "muster" in systems
        assert systems <= set(MODULES)


def test_a_full_run_has_every_workload_in_every_size():
    planned = {(job.workload, job.size) for job in jobs(Choice())}
    assert planned == {
        (workload.name, size) for workload in WORKLOADS.values() for size in workload.sizes
    }


def test_a_quick_run_has_one_size_one_repeat_and_few_systems():
    planned = jobs(Choice(quick=True))
    assert {job.workload for job in planned} == set(WORKLOADS)
    assert {job.system for job in planned} <= set(QUICK_SYSTEMS)
    assert len({(job.workload, job.size) for job in planned}) == len(WORKLOADS)
    assert {job.repeats for job in planned} == {1}
    assert {job.variant for job in planned if job.workload == "noop"} == {"warm", "chunked"}


def test_a_quick_run_leaves_out_what_takes_long_but_a_full_one_has_it():
    fleet = ("fleet-slots", "fleet-shares")
    quick, full = jobs(Choice(quick=True, workloads=fleet)), jobs(Choice(workloads=fleet))
    assert {job.variant for job in quick} == {"alone"}
    assert {job.variant for job in full} == {"alone", "10000-calls-queued"}


def test_the_queue_is_measured_up_to_ten_million_inputs():
    sizes = {
        job.size for job in jobs(Choice()) if job.workload == "queued" and job.system == "muster"
    }
    assert {100_000, 10_000_000} <= sizes


def test_slow_peers_run_a_part_once_and_muster_runs_all():
    planned = jobs(Choice(workloads=["noop"]))
    partial = [job for job in planned if job.variant == "single"]
    assert {job.count for job in partial} == {10_000}
    assert {job.size for job in partial} == {100_000}
    assert all(job.count == job.size for job in planned if job.system == "muster")


def test_chosen_systems_alone_take_part():
    assert {job.system for job in jobs(Choice(quick=True, systems=["parsl"]))} == {"parsl"}


def test_every_round_runs_the_same_jobs_with_another_system_first():
    planned = jobs(Choice(workloads=["large-in"]))
    first, second = rotated(planned, 0), rotated(planned, 1)
    assert first == planned
    assert set(second) == set(planned)
    assert first[0] != second[0]
