"""What is wrong with the arguments is said before anything is sent."""

from __future__ import annotations

import decimal
import fractions
import math
import sys

import pytest

import muster
from muster import remote_parallel_map


def refuse(kind, match, **options):
    with pytest.raises(kind, match=match) as caught:
        remote_parallel_map(
            abs, options.pop("inputs", [1]), url="http://127.0.0.1:1", token="t", **options
        )
    assert isinstance(caught.value, muster.UsageError)


@pytest.mark.parametrize("name", ["func_cpu", "func_ram", "timeout"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf], ids=str)
def test_a_number_that_is_not_positive_and_finite_is_refused(name, value):
    refuse(ValueError, name, **{name: value})


@pytest.mark.parametrize("name", ["func_cpu", "func_ram", "timeout", "max_parallelism", "retries"])
@pytest.mark.parametrize("value", ["1", True, [1], decimal.Decimal(1), 1j], ids=repr)
def test_what_is_not_a_number_is_refused(name, value):
    refuse(TypeError, name, **{name: value})


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"max_parallelism": 0}, ValueError, "max_parallelism must be at least 1"),
        ({"max_parallelism": 1.5}, TypeError, "max_parallelism"),
        ({"retries": -1}, ValueError, "retries"),
        ({"image": 3}, TypeError, "image"),
        ({"runtime": 3}, TypeError, "runtime"),
        ({"runtime": ""}, ValueError, "runtime"),
        ({"image": " "}, ValueError, "image"),
        ({"name": 3}, TypeError, "name"),
        ({"env": "HOME"}, TypeError, "env"),
        ({"env": {"A": 1}}, TypeError, "'A' is mapped to int"),
        ({"env": {"": "x"}}, ValueError, "env"),
        ({"env": {"A=B": "x"}}, ValueError, "A=B"),
        ({"secrets": "PW"}, TypeError, "list of names"),
        ({"secrets": {"PW": "x"}}, TypeError, "muster.secrets.set"),
        ({"secrets": [1]}, TypeError, "name of a secret"),
        ({"secrets": ["A-B"]}, ValueError, "A-B"),
        ({"shares": "data"}, TypeError, "'data': '/data'"),
        ({"shares": ["data"]}, TypeError, "list"),
        ({"shares": {"data": 1}}, TypeError, "map str to str"),
        ({"shares": {"../etc": "/data"}}, ValueError, "name of a share"),
        ({"shares": {"data": "data"}}, ValueError, "absolute path"),
        ({"shares": {"data": "/"}}, ValueError, "root of the container"),
        ({"shares": {"data": "/data/../etc"}}, ValueError, "'..'"),
        ({"shares": {"data": "/data/"}}, ValueError, "ends in '/'"),
        ({"shares": {"data": "/tmp/x"}}, ValueError, "'/tmp'"),
        ({"shares": {"data": "/proc/self"}}, ValueError, "'/proc'"),
        ({"shares": {"data": "/.muster"}}, ValueError, "the container has already"),
        ({"shares": {"data": "/etc"}}, ValueError, "above"),
        ({"shares": {"a": "/data", "b": "/data/b"}}, ValueError, "one is in the other"),
        ({"shares": {f"s{n}": f"/s{n}" for n in range(33)}}, ValueError, "33"),
        ({"env": ["MUSTER_NOT_SET_ANYWHERE"]}, ValueError, "MUSTER_NOT_SET_ANYWHERE"),
        ({"inputs": 5}, TypeError, "inputs must be an iterable, not int"),
        ({"background": True, "generator": True}, ValueError, "exclude each other"),
        ({"url": None, "token": 3}, TypeError, "token"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_wrong_arguments_are_refused_by_name(options, kind, match):
    with pytest.raises(kind, match=match) as caught:
        remote_parallel_map(abs, options.pop("inputs", [1]), **options)
    assert isinstance(caught.value, muster.UsageError)


@pytest.mark.parametrize("empty", [[1], []], ids=["inputs", "no inputs"])
def test_a_callable_that_does_not_take_one_argument_is_refused(empty):
    with pytest.raises(TypeError, match="2 arguments"):
        remote_parallel_map(lambda x, y: x, empty)


def test_everything_asked_for_is_in_the_spec(gateway, monkeypatch):
    monkeypatch.setenv("FORWARDED", "yes")
    remote_parallel_map(
        abs,
        [1],
        func_cpu=fractions.Fraction(1, 2),
        func_ram=0.25,
        max_parallelism=3,
        image="an/image:1",
        runtime="runsc",
        env=["FORWARDED"],
        secrets=["PASSWORD"],
        shares={"data": "/data", "out": "/data-out"},
        timeout=1.5,
        retries=2,
        name="a name",
    )
    assert gateway.call.spec == {
        "kind": "pickle",
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "cpu": 0.5,
        "ram": 0.25,
        "on_error": "stop",
        "name": "a name",
        "max_parallelism": 3,
        "image": "an/image:1",
        "runtime": "runsc",
        "env": {"FORWARDED": "yes"},
        "secrets": ["PASSWORD"],
        "shares": {"data": "/data", "out": "/data-out"},
        "timeout": 1.5,
        "retries": 2,
    }


def test_numbers_of_other_libraries_are_numbers(gateway):
    import numbers

    class Half(float):
        pass

    class Two(int):
        pass

    assert isinstance(Half(), numbers.Real)
    remote_parallel_map(abs, [1], func_cpu=Half(0.5), func_ram=Two(2), max_parallelism=Two(2))
    assert (gateway.call.spec["cpu"], gateway.call.spec["ram"]) == (0.5, 2)
