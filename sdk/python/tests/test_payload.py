"""Functions, inputs and outputs: what can be sent, what comes back, and what is said about the rest."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import muster
from muster import _payload

HERE = str(Path(__file__).resolve().parent)
SOURCE = str(Path(__file__).resolve().parent.parent / "src")

PRELUDE = f"""
import sys
sys.path[:0] = [{SOURCE!r}, {HERE!r}]
from fake_agent import Agent
from muster import _payload

class Context:
    call_id = "c-1"
    def fetch_function(self): raise AssertionError("not needed")

def remote(function, inputs):
    with Agent() as agent:
        agent.begin(_payload.dump_function(function))
        results = agent.run([_payload.dump_input(v, n) for n, v in enumerate(inputs)])
    return [
        _payload.load_value(r.item, Context()) if r.status == 0
        else _payload.load_exception(r.item, Context(), r.index, "host-1")
        for r in results
    ]
"""


def script(tmp_path: Path, text: str, *arguments: str) -> str:
    """Runs a script with a `__main__` of its own, and returns what it printed."""
    file = tmp_path / "script.py"
    file.write_text(PRELUDE + textwrap.dedent(text))
    command = [sys.executable, *(arguments or [str(file)])]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What may be called


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


def test_classes_of_main_come_back_as_themselves(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import dataclasses, enum, collections, abc
        from typing import NamedTuple

        @dataclasses.dataclass
        class Point:
            x: int
            @property
            def twice(self): return Point(self.x * 2)

        class Color(enum.Enum):
            RED = 1
            BLUE = 2

        class Pair(NamedTuple):
            a: int
            b: int

        class Base(abc.ABC):
            count = 0
            def __init__(self): type(self).count += 1
        class Child(Base):
            __slots__ = ("y",)

        def f(x):
            if isinstance(x, Point): return [x.twice, {"k": (x, Color.RED)}]
            if x == "enum": return Color.BLUE
            if x == "pair": return Pair(1, 2)
            if x == "class": return Child
            if x == "child": c = Child(); c.y = 5; return c
            if x == "count": return Child.count
            if x == "dynamic": return type("Made", (), {"v": 7})()
            return x is Color.RED

        out = remote(f, [Point(4), "enum", "pair", "class", "child", "child", "count", "dynamic", Color.RED, Child()])
        (twice, inner), color, pair, kind, child, child2, count, made, same, _ = out
        assert type(twice) is Point and twice == Point(8)
        assert type(inner["k"][0]) is Point and inner["k"][1] is Color.RED
        assert color is Color.BLUE
        assert type(pair) is Pair and pair == (1, 2)
        assert kind is Child and type(child) is Child and child.y == 5
        assert count == 3, count  # one made here, two there: classes keep their state between inputs
        assert made.v == 7
        assert same is True
        assert Point(1).twice == Point(2) and Base.count == 0 and Child.count == 1
        """,
    )


def test_classes_inside_functions_and_closures_work(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        def outer():
            class Local:
                def __init__(self, n): self.n = n
            base = 10
            def f(x):
                return Local(x.n + base)
            return Local, f
        Local, f = outer()
        (back,) = remote(f, [Local(1)])
        assert type(back) is Local and back.n == 11
        """,
    )


def test_callables_of_every_kind_run(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import functools, operator
        class Adder:
            def __init__(self, n): self.n = n
            def __call__(self, x): return x + self.n
            def method(self, x): return x + self.n
            @classmethod
            def of_class(cls, x): return cls(x)
            @staticmethod
            def alone(x): return -x
        add = lambda a, b: a + b
        def recursive(n): return 1 if n < 2 else n * recursive(n - 1)
        assert remote(lambda x: x + 1, [1]) == [2]
        assert remote(functools.partial(add, 5), [1]) == [6]
        assert remote(Adder(2), [1]) == [3]
        assert remote(Adder(2).method, [1]) == [3]
        assert type(remote(Adder.of_class, [1])[0]) is Adder
        assert remote(Adder.alone, [1]) == [-1]
        assert type(remote(Adder, [1])[0]) is Adder
        assert remote(str.upper, ["a"]) == ["A"]
        assert remote(len, [(1, 2)]) == [2]
        assert remote(recursive, [5]) == [120]
        assert remote(operator.itemgetter(1), [(1, 2)]) == [2]
        """,
    )


def test_a_module_run_by_name_and_a_multiprocessing_child_are_main_too(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("def double(x): return x * 2\n")
    body = """
        class Thing:
            def __init__(self, n): self.n = n
        def f(x):
            from . import helper
            return Thing(helper.double(x.n))
        if __name__ == "__main__":
            (back,) = remote(f, [Thing(2)])
            assert type(back) is Thing and back.n == 4
            print("fine")
        """
    (package / "tool.py").write_text(PRELUDE + textwrap.dedent(body))
    assert script(tmp_path, "", "-m", "pkg.tool") == "fine\n"

    output = script(
        tmp_path,
        """
        import multiprocessing
        class Thing:
            def __init__(self, n): self.n = n
        def f(x): return Thing(x.n + 1)
        def child():
            (back,) = remote(f, [Thing(1)])
            assert type(back) is Thing and back.n == 2
            print("child fine")
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start(); process.join()
            sys.exit(process.exitcode)
        """,
    )
    assert output == "child fine\n"


def test_code_given_on_the_command_line_and_modules_without_files_work(tmp_path: Path) -> None:
    code = PRELUDE + textwrap.dedent(
        """
        import types
        made = types.ModuleType("made")
        sys.modules["made"] = made
        exec("class C:\\n    pass\\ndef g(x): return C, x", vars(made))
        class D: pass
        def f(x): return made.g(x), D()
        (((c, one), d),) = remote(f, [1])
        assert c is made.C and one == 1 and type(d) is D
        (back,) = remote(lambda x: x, [made.C()])
        assert type(back) is made.C
        """
    )
    script(tmp_path, "", "-c", code)


def test_another_process_learns_the_classes_of_a_call_from_its_function(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import pickle, subprocess
        class Thing:
            def __init__(self, n): self.n = n
        class Broken(Exception):
            def __init__(self, a, b): super().__init__(a); self.b = b
        def f(x):
            if x: raise Broken("words", 2)
            return Thing(5)
        body = _payload.dump_function(f)
        with Agent() as agent:
            agent.begin(body)
            results = agent.run([_payload.dump_input(n, n) for n in (0, 1)])
        open("call.bin", "wb").write(pickle.dumps((body, [r.item for r in results])))
        """,
    )
    output = script(
        tmp_path,
        """
        import pickle
        body, (value, error) = pickle.load(open("call.bin", "rb"))
        class Context:
            call_id = "c-9"
            fetched = 0
            def fetch_function(self):
                Context.fetched += 1
                return body
        thing = _payload.load_value(value, Context())
        assert thing.n == 5 and type(thing).__name__ == "Thing"
        error = _payload.load_exception(error, Context(), 1)
        assert type(error).__name__ == "Broken" and error.b == 2 and str(error) == "words"
        assert type(_payload.load_value(value, Context())) is type(thing)
        print(Context.fetched)
        """,
    )
    assert output == "1\n"


def test_many_inputs_of_a_class_of_main_define_it_once_and_are_quickly_made(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import cloudpickle, gc
        from muster import _picklers
        class Point:
            made = 0
            def __init__(self, x): self.x = x
            def __setstate__(self, state):
                Point.made += 1
                self.__dict__.update(state)
        def f(p):
            import gc
            gc.collect()
            return type(p).made, p.x
        defined = []
        define = _picklers._define
        _picklers._define = lambda kind: defined.append(kind) or define(kind)
        out = remote(f, [Point(n) for n in range(20)])
        assert out == [(n + 1, n) for n in range(20)], out
        assert defined == [Point]
        """,
    )


def test_functions_in_inputs_work_and_see_their_globals(tmp_path: Path) -> None:
    script(
        tmp_path,
        """
        import enum
        class Kind(enum.Enum):
            A = 1
        factor = 3
        def times(x): return x * factor
        def apply(pair): return pair["f"](pair["x"]), pair["k"]
        assert remote(apply, [{"f": times, "x": 2, "k": Kind.A}]) == [(6, Kind.A)]
        assert remote(apply, [{"f": lambda x: -x, "x": 2, "k": Kind}]) == [(-2, Kind)]
        """,
    )


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
