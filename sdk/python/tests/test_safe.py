"""`results="safe"`: what is let through is what was sent, and nothing of the corpus does anything."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import pickle
import types
import uuid
import zoneinfo
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import muster
from hostile import CORPUS, MARK
from muster import _payload, _safe
from muster._safe import Opaque, is_plain, load_output, loads

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.builds(bytearray, st.binary()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers())
        | st.frozensets(st.text())
    ),
    max_leaves=30,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_plain_data_is_let_through_by_the_fast_way(value):
    pickled = pickle.dumps(value, 5)
    assert is_plain(pickled)
    assert is_plain(memoryview(pickled))
    assert load_output(pickled) == value


@given(PLAIN, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_plain_data_of_older_protocols_is_let_through(value, protocol):
    loaded = load_output(pickle.dumps(value, protocol))
    # Before protocol 5 a bytearray, before 3 bytes, are calls; those with no list of ours stay opaque.
    assert loaded == value or isinstance(loaded, Opaque)


@given(st.binary(max_size=60))
@settings(max_examples=2000, deadline=None)
def test_no_bytes_at_all_do_more_than_be_a_value_or_opaque(data):
    for candidate in (data, b"\x80\x05" + data + b"."):
        load_output(candidate)
        if is_plain(candidate):
            assert b"\x93" not in candidate or _opcodes(candidate).isdisjoint({"STACK_GLOBAL"})


def _opcodes(data: bytes) -> set[str]:
    import pickletools

    try:
        return {op.name for op, _, _ in pickletools.genops(data)}
    except Exception:
        return set()


@given(PLAIN, st.data())
@settings(max_examples=200, deadline=None)
def test_a_pickle_with_bytes_changed_runs_nothing(value, data):
    pickled = bytearray(pickle.dumps([value, datetime.date(2020, 1, 1), collections.deque([1])], 5))
    for _ in range(data.draw(st.integers(1, 4))):
        pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    load_output(bytes(pickled))


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_pickle_is_refused(name):
    MARK.unlink(missing_ok=True)
    found = load_output(CORPUS[name])
    assert isinstance(found, Opaque), found
    assert found.pickled == CORPUS[name]
    assert found.reason
    assert not MARK.exists()


def test_the_corpus_would_do_something_to_who_trusts_it():
    try:
        assert load_output(CORPUS["os.system"]).unpickle(trust=True) == 0
        assert MARK.exists()
    finally:
        MARK.unlink(missing_ok=True)


def test_an_opaque_value_is_unpickled_only_when_trusted():
    found = load_output(pickle.dumps(decimal.Context(), 5))
    assert isinstance(found, muster.Opaque)
    assert "decimal.Context" in found.reason
    with pytest.raises(muster.UsageError, match="trust=True"):
        found.unpickle()
    assert isinstance(found.unpickle(trust=True), decimal.Context)


STANDARD: dict[str, Any] = {
    "complex": 1j,
    "range": range(1, 9, 2),
    "slice": slice(1, None),
    "ellipsis": ...,
    "a class": int,
    "date": datetime.date(2020, 1, 2),
    "time": datetime.time(1, 2, tzinfo=datetime.timezone.utc),
    "datetime": datetime.datetime(
        2020, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1))
    ),
    "zone": datetime.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
    "timedelta": datetime.timedelta(1, 2, 3),
    "decimal": decimal.Decimal("1.50"),
    "fraction": fractions.Fraction(-1, 3),
    "uuid": uuid.UUID(int=5),
    "path": pathlib.PurePosixPath("/a/b"),
    "ordered": collections.OrderedDict(b=1, a=2),
    "default": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abca"),
    "deque": collections.deque([1, 2], 5),
    "array": array.array("d", [1.5, 2.5]),
    "namespace": types.SimpleNamespace(a=1),
    "exception": None,
}


@pytest.mark.parametrize("name", [name for name in STANDARD if name != "exception"])
def test_data_of_the_standard_library_is_let_through(name):
    found = load_output(pickle.dumps([STANDARD[name]] * 2, 5))
    assert found == [STANDARD[name]] * 2
    assert type(found[0]) is type(STANDARD[name])


ARRAYS = {
    "ints": numpy.arange(6).reshape(2, 3),
    "by column": numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
    "a view": numpy.arange(10)[::2],
    "empty": numpy.zeros((0, 3)),
    "other byte order": numpy.arange(3, dtype=">i4"),
    "text": numpy.array(["a", "bcd"]),
    "bytes": numpy.array([b"a", b"bcd"]),
    "times": numpy.array(["2020-01-01", "NaT"], "M8[ns]"),
    "durations": numpy.array([1, 2], "m8[s]"),
    "objects": numpy.array([1, "a", None], object),
    "records": numpy.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", ">f8")]),
    "halves": numpy.array([1.5], "f2"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_let_through(name):
    sent = ARRAYS[name]
    found = loads(pickle.dumps(sent, 5))
    assert found.dtype == sent.dtype
    assert found.shape == sent.shape
    # Equal bytes: not-a-time is not equal to itself.
    assert found.tolist() == sent.tolist() or found.tobytes() == sent.tobytes()


@pytest.mark.parametrize(
    "value", [numpy.float64(1.5), numpy.int8(3), numpy.bool_(True), numpy.datetime64("2020", "D")]
)
def test_scalars_of_numpy_are_let_through(value):
    found = loads(pickle.dumps(value, 5))
    assert (found, type(found)) == (value, type(value))


def test_one_array_twice_is_one_array():
    one = numpy.arange(4)[::2]
    first, second = loads(pickle.dumps([one, one], 5))
    assert first is second


TABLES = {
    "all kinds": pandas.DataFrame(
        {
            "ints": [1, 2],
            "text": ["x", None],
            "times": pandas.to_datetime(["2020-01-01", "2020-01-02"]),
            "kinds": pandas.Categorical(["u", "v"]),
            "nullable": pandas.array([1, None], "Int64"),
        },
        index=["p", "q"],
    ),
    "levels": pandas.DataFrame(
        {"x": [1.0]}, index=pandas.MultiIndex.from_tuples([(1, "a")], names=["n", "l"])
    ),
    "times": pandas.DataFrame(
        {"x": range(3)}, index=pandas.date_range("2020-01-01", periods=3, tz="Europe/Paris")
    ),
    "empty": pandas.DataFrame(),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_let_through(name):
    pandas.testing.assert_frame_equal(loads(pickle.dumps(TABLES[name], 5)), TABLES[name])


def test_series_and_arrow_tables_are_let_through():
    series = pandas.Series([1.0, 2.0], index=["a", "b"], name="s")
    pandas.testing.assert_series_equal(loads(pickle.dumps(series, 5)), series)
    table = pyarrow.table({"a": [1, None], "b": ["x", "y"], "c": [[1], []], "d": [{"e": 1}, None]})
    assert loads(pickle.dumps(table, 5)).equals(table)


def test_a_category_or_a_block_out_of_place_is_refused():
    frame = pandas.DataFrame({"a": pandas.Categorical(["u", "v"])})
    pickled = pickle.dumps(frame, 5)
    codes = b"\x96\x02" + bytes(7) + b"\x00\x01"
    if codes not in pickled:
        codes = b"C\x02\x00\x01"
    assert pickled.count(codes) == 1
    found = load_output(pickled.replace(codes, codes[:-1] + b"\x7f"))
    assert isinstance(found, Opaque)
    assert "category" in found.reason


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Colour(enum.Enum):
    RED = 1


class Odd(Exception):
    pass


def run_command(_command):
    MARK.write_text("a function ran")


class Runs:
    made = 0

    def __init__(self):
        Runs.made += 1


@pytest.fixture
def shipped(monkeypatch):
    """As if this module had travelled with a function."""
    monkeypatch.setattr(_payload, "ships", lambda name: name == __name__)


@pytest.mark.usefixtures("shipped")
def test_instances_of_classes_that_were_sent_along_are_let_through():
    for value in (Point(1, Point(2)), Colour.RED, [Point(3), numpy.arange(2).tolist()]):
        assert loads(pickle.dumps(value, 5)) == value
    error = loads(pickle.dumps(Odd("a", 1), 5))
    assert (type(error), error.args) == (Odd, ("a", 1))


@pytest.mark.usefixtures("shipped")
def test_of_what_was_sent_along_no_function_and_no_constructor_runs():
    class Calls:
        def __init__(self, what, *arguments):
            self.reduced = (what, arguments)

        def __reduce__(self):
            return self.reduced

    for what, arguments in ((run_command, ("x",)), (Runs, ()), (Point, (1,))):
        assert isinstance(load_output(pickle.dumps(Calls(what, *arguments), 5)), Opaque)
    assert Runs.made == 0
    assert not MARK.exists()


@pytest.mark.usefixtures("shipped")
def test_a_class_that_was_sent_along_is_not_changed():
    def changed(state: bytes) -> bytes:
        name = __name__.encode()
        named = b"\x8c" + bytes([len(name)]) + name + b"\x8c\x05Point\x93"
        return b"\x80\x05" + named + state + b"b."

    for state in (b"}\x8c\x01xK\x01s", b"N}\x8c\x01xK\x01s\x86"):
        assert isinstance(load_output(changed(state)), Opaque)
    assert not hasattr(Point, "x")


def test_classes_that_were_not_sent_along_stay_opaque(monkeypatch):
    monkeypatch.setattr(_payload, "ships", lambda _: False)
    found = load_output(pickle.dumps(Point(1), 5))
    assert isinstance(found, Opaque)
    assert found.unpickle(trust=True) == Point(1)


def test_a_call_with_safe_results_gives_data_exceptions_and_opaque_values(gateway):
    assert gateway

    def function(x):
        if x == 2:
            raise ValueError("no", x)
        if x == 3:
            return decimal.Context()
        if x == 4:
            raise pickle.PicklingError("of no class that was sent")
        return {"x": numpy.arange(x)}

    got = muster.remote_parallel_map(
        function, range(5), results="safe", return_exceptions=True, spinner=False
    )
    assert got[1]["x"].tolist() == [0]
    assert (type(got[2]), got[2].args) == (ValueError, ("no", 2))
    assert isinstance(got[3], Opaque)
    assert isinstance(got[4], muster.RemoteError)
    assert got[4].type_name == "_pickle.PicklingError"
    assert muster.remote_parallel_map(abs, range(1000), results="safe", spinner=False) == list(
        range(1000)
    )


def test_a_background_call_remembers_that_its_results_are_to_be_safe(gateway):
    assert gateway
    call = muster.remote_parallel_map(
        lambda _: decimal.Context(), [1], background=True, results="safe"
    )
    assert isinstance(call.results()[0], Opaque)
    assert isinstance(call.results(results="any")[0], decimal.Context)
    with pytest.raises(muster.UsageError, match="'any' or 'safe'"):
        muster.Call(call.id).results(results="maybe")  # type: ignore[arg-type]


def test_the_unpickler_changes_nothing_for_others():
    assert pickle._Unpickler.dispatch is not _safe._Restricted.dispatch
    assert pickle.loads(pickle.dumps(decimal.Context(), 0))
