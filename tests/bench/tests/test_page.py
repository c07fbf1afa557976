"""Tables, plots and the page."""

import xml.etree.ElementTree as ET

import pytest
from muster_bench import document, plots, tables
from muster_bench.results import Results
from muster_bench.samples import Sample
from samples_for_tests import sample

RESULTS = Results(
    {"kernel": "6.1"},
    [
        sample("muster/warm", [2.0, 3.0, 4.0]),
        sample("pool/chunked", [1.0], calibration_s=0.10),
        sample("executor/chunked", [1.5], calibration_s=0.12),
        sample("ray/single", [0.6], count=100),
        Sample(sample("parsl/chunked", []).job, error="not installed: no such version"),
    ],
)


def row(text, system):
    """The cells of the row of a system."""
    return next(
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if f"| {system}" in line
    )


def test_results_survive_being_written_and_read():
    assert Results.from_json(RESULTS.to_json()) == RESULTS


def test_the_summary_compares_with_the_best_peer():
    cells = row(tables.summary(RESULTS), "1,000 no-op integers")
    assert cells[1:4] == ["3 seconds (2 – 4)", "multiprocessing.Pool, chunked: 1", "3 x"]


def test_a_detail_row_has_spread_ratio_and_cost():
    text = tables.report(RESULTS)
    assert row(text, "**Muster**")[:4] == ["**Muster**", "3", "2 – 4", ""]
    assert row(text, "ProcessPoolExecutor, chunked")[:4] == [
        "ProcessPoolExecutor, chunked",
        "1.50",
        "1.50 – 1.50",
        "2 x",
    ]


def test_a_projected_figure_says_so():
    assert "Ray, single (projected from 100)" in tables.report(RESULTS)


def test_a_peer_that_could_not_be_installed_is_reported():
    assert "Not measured: Parsl, chunked: not installed: no such version" in tables.report(RESULTS)


def test_noise_is_how_far_the_calibration_went_astray():
    assert RESULTS.noise() == pytest.approx(0.2)
    assert "up to 20 % longer" in tables.machine_lines(RESULTS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567.8, "1,234,568"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.01234, "0.012"),
        (0, "0"),
    ],
)
def test_numbers_have_about_three_digits(value, text):
    assert tables.number(value) == text


def test_the_page_keeps_what_people_wrote(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"before\n\n{document.BEGIN}\nold\n{document.END}\n\nafter\n")
    document.write(page, RESULTS)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "(performance/noop-1000.svg)" in text
    assert (tmp_path / "performance" / "noop-1000.svg").exists()


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="markers"):
        document.replaced("nothing", "new")


def test_a_plot_is_an_xml_document_with_one_bar_a_system():
    text = document.charts(RESULTS)["noop-1000.svg"]
    bars = [
        element
        for element in ET.fromstring(text).iter()
        if element.get("fill") in (plots.OURS, plots.THEIRS)
    ]
    assert len(bars) == 4
    assert sum(bar.get("fill") == plots.OURS for bar in bars) == 1


def test_a_plot_of_nothing_and_of_zeros_can_be_drawn():
    ET.fromstring(plots.bar_chart("a < b", [], ""))
    ET.fromstring(plots.bar_chart("zeros", [plots.Bar("none", 0.0, 0.0, 0.0, "0", ours=True)], ""))
