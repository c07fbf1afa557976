"""`unpack=True`: an input is all arguments of the function."""

from __future__ import annotations

import collections
import functools
import pickle
import threading
import traceback
import types
from typing import Any

import pytest

import muster
from fake_agent import Agent
from fake_gateway import say
from muster import _payload, remote_parallel_map


def spread(function, inputs, **options):
    options.setdefault("spinner", False)
    return remote_parallel_map(function, inputs, unpack=True, **options)


Point = collections.namedtuple("Point", "x y")


def weigh(x, y=1, *rest, scale=1):
    return (x + y + sum(rest)) * scale


class Method:
    def __init__(self, base):
        self.base = base

    def call(self, x, y):
        return self.base + x * y


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((1, 2), 3),
        ([1, 2, 3, 4], 10),
        ((5,), 6),
        (Point(3, 4), 7),
        ({"x": 1}, 2),
        ({"scale": 10, "y": 2, "x": 1}, 30),
        (collections.OrderedDict(x=1, scale=2), 4),
    ],
    ids=repr,
)
def test_tuples_and_lists_are_positional_arguments_and_mappings_keywords(gateway, given, wanted):
    assert spread(weigh, [given]) == [wanted]


@pytest.mark.parametrize(
    "function",
    [lambda x, y: x * y, functools.partial(pow, mod=None), Method(0).call, divmod, "{}-{}".format],
    ids=["lambda", "partial", "method", "builtin", "builtin method"],
)
def test_any_callable_of_several_arguments_will_do(gateway, function):
    assert spread(function, [(7, 3)]) == [function(7, 3)]


def test_each_input_has_its_own_shape_whatever_the_iterable_is(gateway):
    def inputs():
        for x in range(1000):
            yield (x,) if x % 2 else {"x": x, "scale": 2}

    assert spread(weigh, inputs()) == [(x + 1) * (1 if x % 2 else 2) for x in range(1000)]


def test_a_function_without_parameters_is_called_with_none(gateway):
    assert spread(lambda: "called", [(), {}, []]) == ["called"] * 3


def test_without_it_a_tuple_is_one_argument(gateway):
    assert remote_parallel_map(lambda pair: pair, [(1, 2)], spinner=False) == [(1, 2)]


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
@pytest.mark.parametrize("how", [{}, {"generator": True}, {"background": True}], ids=str)
def test_what_cannot_be_spread_is_refused_by_index_and_type(gateway, kind, how):
    with pytest.raises(TypeError, match=r"inputs\[2\] is of type int; with unpack=True") as caught:
        list(spread(weigh, kind([(1,), (2,), 3, 4]), **how))
    assert isinstance(caught.value, muster.UsageError)


@pytest.mark.parametrize("wrong", [5, None, "text", b"bytes", {1, 2}, range(2), 1.5], ids=repr)
def test_only_tuples_lists_and_mappings_can_be_spread(gateway, wrong):
    with pytest.raises(TypeError, match=rf"inputs\[0\] is of type {type(wrong).__name__}"):
        spread(weigh, [wrong])
    assert gateway.requests == []


def test_a_mapping_whose_keys_are_no_names_is_refused(gateway):
    with pytest.raises(TypeError, match=r"inputs\[1\] has a key of type int"):
        spread(weigh, [{"x": 1}, {"x": 1, 2: 3}])


def test_a_mapping_that_is_no_dict_is_spread_too(gateway):
    chained = collections.ChainMap({"x": 2}, {"x": 1, "scale": 5})
    assert spread(weigh, [chained]) == [15]
    assert spread(weigh, [types.MappingProxyType({"x": 1})]) == [2]


def test_a_wrong_number_of_arguments_is_the_functions_own_type_error(gateway):
    with pytest.raises(
        TypeError, match=r"two\(\) missing 1 required positional argument"
    ) as caught:
        spread(two, [(1, 2), (1,)])
    assert caught.value.index == 1


def two(x, y):
    return x + y


def test_without_it_the_error_says_that_it_exists():
    for wrong in (two, lambda *, x: x):
        with pytest.raises(TypeError, match="unpack=True"):
            remote_parallel_map(wrong, [(1, 2)])


@pytest.mark.parametrize(
    ("wrong", "words"), [(3, "not callable; pass a function$"), (lambda x, y: (yield), r"list\(f\(\*x\)\)")]
)  # fmt: skip
def test_what_cannot_be_called_so_is_refused_before_anything_is_sent(wrong, words):
    with pytest.raises(TypeError, match=words):
        spread(wrong, [(1, 2)])


def test_the_call_has_the_functions_name(gateway):
    spread(weigh, [(1,)])
    assert gateway.call.spec["name"] == "weigh"


def test_prints_belong_to_their_input(gateway, capsys):
    gateway.workers = 1
    spread(lambda x, y: say(b"%d %d\n" % (x, y)), [(1, 2), (3, 4)])
    assert capsys.readouterr().out == "1 2\n3 4\n"


def test_what_keeps_the_function_from_being_pickled_is_named_as_ever(gateway):
    lock = threading.Lock()

    def uses(x, y):
        return lock, x, y

    with pytest.raises(muster.PicklingError, match="uses.*variable 'lock'") as caught:
        spread(uses, [(1, 2)])
    assert "Unpack" not in str(caught.value)


def failing(x, y):
    raise ValueError(f"{x} and {y}")


def test_the_runner_calls_it_and_no_frame_of_ours_is_in_its_traceback():
    class Context:
        call_id = "c-1"

        def fetch_function(self) -> bytes:
            raise AssertionError("not needed")

    items = [_payload.dump_input(value, n) for n, value in enumerate([(1, 2), {"x": 3, "y": 4}])]
    with Agent() as agent:
        agent.begin(_payload.dump_function(two, unpack=True))
        assert [pickle.loads(result.item) for result in agent.run(items)] == [3, 7]
    with Agent() as agent:
        agent.begin(_payload.dump_function(failing, unpack=True))
        (result, _) = agent.run(items)
    error: Any = _payload.load_exception(result.item, Context(), 0)
    frames = traceback.extract_tb(error.__traceback__)
    assert [(frame.name, frame.line) for frame in frames] == [
        ("failing", 'raise ValueError(f"{x} and {y}")')
    ]
    assert b"muster/_unpack" not in result.item
