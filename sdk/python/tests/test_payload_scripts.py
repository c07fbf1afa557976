"""What scripts of users define and send: functions, classes and modules, seen from `__main__`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from user_scripts import PRELUDE, script


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
