"""Functions, inputs and outputs: what can be sent, what comes back, and what is said about the rest."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import pickle
import sqlite3
import threading
import types
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import muster
from muster import _payload


def two(a: Any, b: Any) -> None: ...


def keyword(a: Any, *, needed: Any) -> None: ...


def none() -> None: ...


class Object:
    def __call__(self, x: Any) -> Any:
        return x

    def method(self, x: Any) -> Any:
        return x

    @classmethod
    def of_class(cls, x: Any) -> Any:
        return x


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x, y=1: x,
        lambda *args: args,
        lambda x, **options: x,
        lambda x=1, y=2: x,
        lambda x, *, y=1: x,
        functools.partial(two, 1),
        functools.partial(keyword, needed=1),
        Object(),
        Object().method,
        Object.of_class,
        len,
        int,
        str.upper,
        dict,
        operator.itemgetter(0),
        Exception,
        functools.lru_cache(lambda x: x),
    ],
    ids=repr,
)
def test_anything_that_takes_one_positional_argument_may_be_called(
    function: Callable[[Any], Any],
) -> None:
    _payload.check_callable(function)


async def coroutine(x: Any) -> Any:
    return await asyncio.sleep(0, x)


def generator(x: Any) -> Any:
    yield x


@functools.wraps(two)
def wrapper_of_two(*args: Any) -> Any:
    return two(*args)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            two,
            "needs 2 arguments, but is called with one, the input; fix the others with functools",
        ),
        (keyword, "needs the keyword argument 'needed'"),
        (none, "takes no argument"),
        (functools.partial(two, 1, 2), "takes no argument"),
        (3, "not callable"),
        (None, "not callable"),
        (coroutine, "async function"),
        (functools.partial(coroutine), "async function"),
        (generator, "generator function"),
        (lambda: 1, "takes no argument"),
        (lambda *, x: x, "needs the keyword argument 'x'"),
        (lambda x, *, y: x, "needs the keyword argument 'y'"),
        (lambda x, y, z=1: x, "needs 2 arguments"),
        (lambda **options: options, "takes no argument"),
        (wrapper_of_two, "needs 2 arguments"),
        (types.coroutine(generator), "generator function"),
    ],
)
def test_anything_else_is_refused_with_what_to_do(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        _payload.check_callable(function)


# What cannot be pickled

lock = threading.Lock()


def uses_global(x: Any) -> Any:
    with lock:
        return x


def calls_another(x: Any) -> Any:
    return uses_global(x)


class Holder:
    def __init__(self) -> None:
        self.items = {"lock": threading.RLock()}

    def method(self, x: Any) -> Any:
        return x


def refusal(function: Callable[[], Any]) -> muster.PicklingError:
    with pytest.raises(muster.PicklingError) as caught:
        function()
    assert isinstance(caught.value, pickle.PicklingError)
    return caught.value


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: uses_global, "function 'uses_global' uses global 'lock', a _thread.lock"),
        (lambda: calls_another, "uses global 'uses_global' uses global 'lock', a _thread.lock"),
        (lambda: Holder().method, ".items['lock'], a _thread.RLock"),
        (lambda: functools.partial(two, threading.Lock()), ".args[0], a _thread.lock"),
        (lambda: (lambda guard: lambda x: guard)(threading.Lock()), "uses variable 'guard'"),
        (lambda: lambda x, y=threading.Lock(): x, "has a default value, a _thread.lock"),  # noqa: B008
    ],
)
def test_a_function_that_cannot_be_pickled_names_what_stops_it(
    make: Callable[[], Any], words: str
) -> None:
    assert words in str(refusal(lambda: _payload.dump_function(make())))


def test_an_input_that_cannot_be_pickled_names_its_index_and_the_object() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        error = refusal(lambda: _payload.dump_input([1, {"conn": connection}], 3))
    assert str(error).startswith("inputs[3][1]['conn'], a sqlite3.Connection, which cannot")
    assert error.index == 3
    error = refusal(lambda: _payload.dump_input(lock, 7))
    assert str(error).startswith("inputs[7] is a _thread.lock, which cannot be pickled")


def test_an_input_nested_too_deeply_is_refused_in_words() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert "inputs[0] cannot be pickled: it is nested too deeply" in str(
        refusal(lambda: _payload.dump_input(value, 0))
    )


def test_an_object_whose_pickling_raises_is_refused_in_words() -> None:
    class Bad:
        def __reduce__(self) -> Any:
            raise RuntimeError("not me")

    assert "not me" in str(refusal(lambda: _payload.dump_input([Bad()], 0)))


# There and back

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(plain)
def test_plain_values_survive(value: Any) -> None:
    assert pickle.loads(_payload.dump_input(value, 0)) == value


def test_a_warm_dump_of_an_unchanged_function_gives_the_same_modules() -> None:
    first, second = (_payload.dump_function(lambda x: x) for _ in range(2))
    assert len(first) == len(second)


def test_an_output_that_cannot_be_read_here_is_a_pickling_error() -> None:
    class Context:
        call_id = "c-1"

        def fetch_function(self) -> bytes:
            raise AssertionError

    with pytest.raises(muster.PicklingError, match="No module named 'nosuch'"):
        _payload.load_value(b"cnosuch\nf\n.", Context())


def test_many_inputs_come_in_order_whatever_each_of_them_needs() -> None:
    values: list[Any] = [
        *({"n": n} for n in range(2000)),
        "the text __main__",
        lambda: "by value",
        [1, 2],
        bytes(1 << 20),
        {"text": "__main__"},
        *(bytes(1000) for _ in range(1000)),
    ]
    groups = list(_payload.dump_inputs(values, 5))
    items = [item for group in groups for item in group]
    assert len(items) == len(values)
    assert 4 < len(groups) < 100
    for value, item in zip(values, items):
        loaded = pickle.loads(item)
        assert loaded() == "by value" if callable(value) else loaded == value


def test_the_one_of_many_inputs_that_cannot_be_pickled_is_named() -> None:
    groups = _payload.dump_inputs([{"n": 1}, [2], threading.Lock(), {"n": 3}], 7)
    assert [pickle.loads(item) for item in next(groups)] == [{"n": 1}, [2]]
    assert refusal(lambda: next(groups)).index == 9
