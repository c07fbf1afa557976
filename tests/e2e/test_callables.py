"""Any callable of one argument runs, wherever it was defined; any other is refused before anything
is sent."""

import functools
import sys

import muster
import pytest
from harness import Script, small_map
from harness.ports import closed_url


def test_a_lambda_and_a_closure_run(service):
    base = 40

    def add(x):
        return base + x

    assert small_map(add, [1, 2]) == [41, 42]
    assert small_map(lambda x: (base, x), [1]) == [(40, 1)]


def test_a_partial_runs(service):
    assert small_map(functools.partial(pow, 2), [3, 4]) == [8, 16]
    assert small_map(functools.partial(int, base=2), ["101"]) == [5]


def test_a_bound_method_and_a_callable_object_run(service):
    class Scale:
        def __init__(self, factor):
            self.factor = factor

        def times(self, x):
            return self.factor * x

        def __call__(self, x):
            return self.factor + x

    assert small_map(Scale(3).times, [1, 2]) == [3, 6]
    assert small_map(Scale(3), [1, 2]) == [4, 5]
    assert small_map("-".join, [["a", "b"]]) == ["a-b"]


def test_a_class_is_called_and_its_instances_come_back(service):
    class Point:
        def __init__(self, x):
            self.x = x

    points = small_map(Point, [1, 2])
    assert [point.x for point in points] == [1, 2]
    assert all(type(point) is Point for point in points)
    assert small_map(str, [1, 2]) == ["1", "2"]


def test_builtins_run(service):
    assert small_map(len, ["abc", []]) == [3, 0]


def test_a_tuple_is_one_argument(service):
    assert small_map(lambda pair: pair, [(1, 2), ()]) == [(1, 2), ()]


def test_a_recursive_function_and_one_with_defaults_run(service):
    def factorial(n, one=1):
        return one if n < 2 else n * factorial(n - 1)

    assert small_map(factorial, [5]) == [120]


@pytest.mark.smoke
def test_a_scripts_main_runs_with_its_own_classes_and_globals(script):
    source = """
import math
from dataclasses import dataclass
import muster

SCALE = 10

@dataclass
class Area:
    value: float

def scaled(x):
    return x * SCALE

def area(r):
    return Area(round(math.pi * scaled(r), 2))

if __name__ == "__main__":
    outputs = muster.remote_parallel_map(area, [1, 2], func_ram=0.25, spinner=False)
    assert all(type(output) is Area for output in outputs)
    print(outputs)
"""
    assert script(source).succeed() == b"[Area(value=31.42), Area(value=62.83)]\n"


def test_what_is_typed_into_an_interpreter_runs(service, tmp_path):
    typed = b"""\
import muster
class Box:
    def __init__(self, x): self.x = x

def boxed(x):
    return Box(x + 1)

[box.x for box in muster.remote_parallel_map(boxed, [1, 2], func_ram=0.25, spinner=False)]
exit()
"""
    arguments = [sys.executable, "-i", "-q"]
    with Script(arguments, cwd=tmp_path, env=service.environment, stdin=typed) as script:
        assert b"[2, 3]" in script.succeed(), script


def test_local_modules_and_packages_that_are_not_installed_travel_with_the_function(
    script, tmp_path
):
    package = tmp_path / "localpackage"
    package.mkdir()
    (package / "__init__.py").write_text("from .deep import FACTOR\n")
    (package / "deep.py").write_text("import localmodule\nFACTOR = localmodule.BASE + 1\n")
    (package / "work.py").write_text(
        "from . import deep\nfrom localpackage.late import plus\n\n"
        "def run(x):\n    return plus(x * deep.FACTOR)\n"
    )
    (package / "late.py").write_text(
        "def plus(x):\n    from localpackage import lazy\n    return x + lazy.ONE\n"
    )
    (package / "lazy.py").write_text("ONE = 1\n")
    (tmp_path / "localmodule.py").write_text("BASE = 4\n\ndef double(x):\n    return 2 * x\n")
    source = """
import localmodule
import muster
from localpackage.work import run
options = {"func_ram": 0.25, "spinner": False}
print(muster.remote_parallel_map(run, [1, 2], **options))
print(muster.remote_parallel_map(lambda x: localmodule.double(x), [3], **options))
"""
    assert script(source).succeed() == b"[6, 11]\n[6]\n"


def test_outputs_of_a_local_modules_class_are_of_the_clients_class(script, tmp_path):
    (tmp_path / "shapes.py").write_text(
        "class Square:\n    def __init__(self, side):\n        self.side = side\n"
    )
    source = """
import muster, shapes
outputs = muster.remote_parallel_map(shapes.Square, [2], func_ram=0.25, spinner=False)
assert type(outputs[0]) is shapes.Square
print(outputs[0].side)
"""
    assert script(source).succeed() == b"2\n"


class _Static:
    def no_argument(self):
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: 0,
        lambda _x, _y: 0,
        lambda *, _x: 0,
        lambda _x, *, _y: 0,
        functools.partial(lambda _x: 0, 1),
        _Static().no_argument,
        _Static,
        3,
        "name",
        None,
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_cannot_take_exactly_one_argument_is_refused_before_anything_is_sent(
    monkeypatch, wrong
):
    # Nobody listens there: whoever sends gets another error.
    monkeypatch.setenv("MUSTER_URL", closed_url())
    with pytest.raises(TypeError):
        muster.remote_parallel_map(wrong, [1], spinner=False)
