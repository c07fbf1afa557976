"""What inputs cost, as users see it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from muster._receipts import Receipt, Receipts, Used

GB = 1 << 30


def told(first: int = 0, count: int = 1, attempt: int = 1, **more: Any) -> dict[str, Any]:
    event = {
        "type": "receipt", "first": first, "count": count, "attempt": attempt, "host": "node",
        "started": "2026-01-01T00:00:00Z", "queue_s": 1.0, "run_s": 4.0, "cpu_s": 2.0, "peak_bytes": GB,
    }  # fmt: skip
    return {**event, **more}


class Some:
    """As many outputs."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def outputs(count: int) -> Any:
    return Some(count)


def test_inputs_that_were_measured_together_get_even_parts():
    receipts = Receipts()
    receipts.event(told(first=3, count=2))
    receipts.outputs(3, 1, outputs(2))
    common = {"attempt": 1, "host": "node", "started": "2026-01-01T00:00:00Z", "peak_bytes": GB}
    first = Receipt(index=3, queue_seconds=1.0, run_seconds=2.0, cpu_seconds=1.0, **common)
    second = Receipt(index=4, queue_seconds=3.0, run_seconds=2.0, cpu_seconds=1.0, **common)
    assert receipts.list() == [first, second]


def test_receipts_are_rows_of_plain_values_as_tables_want_them():
    receipts = Receipts()
    receipts.event(told(count=2))
    receipts.outputs(0, 1, outputs(2))
    rows = [dataclasses.asdict(one) for one in receipts.list()]
    names = [field.name for field in dataclasses.fields(Receipt)]
    assert [list(row) for row in rows] == [names, names]
    assert {type(value) for row in rows for value in row.values()} == {int, float, str}


def test_only_the_attempt_that_gave_the_output_counts():
    receipts = Receipts()
    receipts.event(told(first=0, count=2, attempt=1))
    receipts.event(told(first=1, count=1, attempt=2, host="other"))
    receipts.outputs(0, 1, outputs(1))
    receipts.outputs(1, 2, outputs(1))
    assert [(one.index, one.attempt, one.host) for one in receipts.list()] == [
        (0, 1, "node"),
        (1, 2, "other"),
    ]


@pytest.mark.parametrize(
    ("peak", "words"),
    [
        (0.6 * GB, "asked 4 GB, largest peak 0.6 GB: func_ram=1 would fit 4 x more; used 0.5 of 2 cores"),
        (0.15 * GB, "func_ram=0.25 would fit 16 x more"),
        (1.5 * GB, "func_ram=2 would fit 2 x more"),
        (2.5 * GB, "largest peak 2.5 GB; used 0.5 of 2 cores"),
    ],
)  # fmt: skip
def test_a_line_says_what_was_used_of_what_was_asked(peak, words):
    used = Used(2, 4)
    used.add(told(peak_bytes=int(peak)))
    used.add(told(peak_bytes=1000))
    line = used.line()
    assert line is not None
    assert words in line
    assert ("would fit" in line) == ("func_ram" in words)


def test_a_short_call_gets_no_line():
    used = Used(1, 4)
    assert used.line() is None
    used.add(told())
    assert used.line() is None
