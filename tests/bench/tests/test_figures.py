"""The arithmetic."""

import pytest
from muster_bench import figures
from samples_for_tests import sample


def test_the_median_of_an_odd_number_of_values_is_the_middle_one():
    assert figures.median([9.0, 1.0, 2.0]) == 2.0


def test_the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two():
    assert figures.median([4.0, 1.0, 2.0, 100.0]) == 3.0


def test_no_values_have_no_median_and_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        figures.median([])
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 50)


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (0, 1)]
)
def test_a_percentile_is_a_value_that_was_measured(percent, expected):
    assert figures.percentile(list(range(100, 0, -1)), percent) == expected


def test_a_spread_has_median_least_and_most():
    assert figures.spread([3.0, 1.0, 2.0]) == figures.Spread(2.0, 1.0, 3.0, 3)


def test_a_ratio_to_nothing_is_not_a_number():
    assert figures.ratio(3.0, 2.0) == 1.5
    assert figures.ratio(3.0, 0.0) is None


def test_no_schedule_beats_the_shared_out_work_or_the_longest_piece():
    assert figures.ideal_seconds([1.0, 1.0, 1.0, 1.0], workers=2) == 2.0
    assert figures.ideal_seconds([1.0, 5.0], workers=2) == 5.0


def test_efficiency_is_the_work_done_of_the_work_that_fits():
    assert figures.efficiency_percent(cpu_seconds=10.0, wall_seconds=6.25, workers=2) == 80.0


def test_times_and_cpu_of_a_part_are_projected_to_the_whole():
    partial = [sample("ray/single", [2.0, 4.0], size=1000, count=100)]
    assert figures.values_of(partial, "seconds") == [20.0, 40.0]
    assert figures.cpu_of(partial) == [30.0, 30.0]


def test_memory_is_projected_without_its_fixed_part():
    partial = sample("ray/single", [1.0], size=1000, count=100)
    partial.repeats[0].values.update({"services_MiB": 50.0, "idle_MiB": 40.0, "p50_ms": 3.0})
    assert figures.values_of([partial], "services_MiB") == [140.0]
    assert figures.values_of([partial], "p50_ms") == [3.0]


def test_the_rounds_of_a_job_are_one_set_of_values():
    rounds = [sample("ray/single", [1.0]), sample("ray/single", [2.0, 3.0])]
    assert figures.values_of(rounds, "seconds") == [1.0, 2.0, 3.0]
    assert figures.values_of(rounds, "p50_ms") == []


def test_the_engine_is_no_part_of_a_systems_cpu_unless_asked_for():
    assert figures.cpu_of([sample("ray/single", [1.0])]) == [3.0]
    assert figures.cpu_of([sample("ray/single", [1.0])], ["engine"]) == [4.0]


def test_a_role_that_was_not_seen_has_no_peak():
    assert figures.peaks_of([sample("ray/single", [1.0])]) == [30.0]
    assert figures.peaks_of([sample("ray/single", [1.0])], "gateway") == []
