"""Exceptions come back as themselves, with the remote frames; awkward ones as well as can be."""

from __future__ import annotations

import json
import linecache
import pickle
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

import muster
from fake_agent import Agent
from muster import RemoteError, _exceptions, _payload
from user_scripts import script


class Context:
    call_id = "c-1"

    def fetch_function(self) -> bytes:
        raise AssertionError("this process made the function")


def raise_in(text: str) -> Callable[[Any], Any]:
    def f(_: Any) -> Any:
        exec(text, {})

    return f


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[Any], BaseException]]:
    """Runs a function of one input in a container's Python, one after another in fresh runners."""

    def run(function: Callable[[Any], Any], value: Any = None) -> BaseException:
        with Agent() as agent:
            agent.begin(_payload.dump_function(function))
            (result,) = agent.run([_payload.dump_input(value, 0)])
        assert result.status == 1, result
        return _payload.load_exception(result.item, Context(), 3, "host-1")

    return run


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


class NeedsTwo(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Greets(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"hello {name}")


class Forgets(Exception):
    def __init__(self, *, key: str) -> None:
        self.key = key

    def __str__(self) -> str:
        return f"key {self.key}"


class Slotted(Exception):
    __slots__ = ("place",)


class Reduced(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.b = b

    def __reduce__(self) -> Any:
        return type(self), (self.args[0], self.b)


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("will not")


class Endless(Exception):
    def __reduce__(self) -> Any:
        return type(self), (Endless(),)


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def make(kind: str) -> BaseException:
    if kind == "needs two":
        return NeedsTwo(4, "words")
    if kind == "greets":
        return Greets("bob")
    if kind == "forgets":
        return Forgets(key="k")
    if kind == "slotted":
        error = Slotted("s")
        error.place = 5
        return error
    if kind == "reduced":
        return Reduced(1, 2)
    if kind == "bad reduce":
        return BadReduce("why")
    if kind == "endless":
        return Endless("deep")
    if kind == "lock in attributes":
        held = NeedsTwo(1, "held")
        held.lock = threading.Lock()  # type: ignore[attr-defined]
        held.kept = [1]  # type: ignore[attr-defined]
        return held
    if kind == "lock in arguments":
        return ValueError("before", threading.Lock())
    if kind == "no text":
        return NoText("x")
    if kind == "oserror":
        return FileNotFoundError(2, "No such file", "/nowhere")
    if kind == "unicode":
        return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte")
    if kind == "stop":
        return StopIteration("value")
    if kind == "key":
        return KeyError("k")
    if kind == "import":
        return ImportError("m", name="n", path="p")
    if kind == "json":
        return json.JSONDecodeError("bad", "doc", 1)
    if kind == "syntax":
        return SyntaxError("bad", ("file.py", 3, 4, "text"))
    raise AssertionError(kind)


def raiser(kind: str) -> None:
    raise make(kind)


@pytest.mark.parametrize(
    "kind",
    ["needs two", "greets", "forgets", "slotted", "reduced", "bad reduce", "lock in attributes"]
    + ["oserror", "unicode", "stop", "key", "import", "json", "syntax"],
)
def test_the_real_class_comes_back_with_message_arguments_and_attributes(
    run: Any, kind: str
) -> None:
    wanted = make(kind)
    error = run(raiser, kind)
    assert type(error) is type(wanted)
    assert str(error) == str(wanted)
    assert error.args == wanted.args
    for name, value in vars(wanted).items():
        if name != "lock":
            assert getattr(error, name) == value
    for name in ("place", "errno", "filename", "start", "value", "name", "path", "pos", "lineno"):
        if hasattr(wanted, name):
            assert getattr(error, name) == getattr(wanted, name)


def test_what_cannot_be_pickled_is_dropped_and_nothing_else(run: Any) -> None:
    error = run(raiser, "lock in attributes")
    assert not hasattr(error, "lock")
    assert error.kept == [1]
    error = run(raiser, "lock in arguments")
    assert type(error) is ValueError
    assert error.args[0] == "before"
    assert "lock" in error.args[1]


def test_exceptions_that_defend_themselves_still_say_something(run: Any) -> None:
    error = run(raiser, "endless")
    assert isinstance(error, (Endless, RemoteError))
    assert "deep" in str(error)
    error = run(raiser, "no text")
    assert isinstance(error, RemoteError)
    assert error.type_name.endswith("NoText")
    assert "str() of NoText failed" in error.message


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("import sys; sys.exit(3)", "SystemExit", "3"),
        ("raise KeyboardInterrupt('stop')", "KeyboardInterrupt", "stop"),
        ("raise GeneratorExit", "GeneratorExit", ""),
        ("class B(BaseException): pass\nraise B('mine')", "B", "mine"),
        ("import asyncio; raise asyncio.CancelledError('c')", "CancelledError", "c"),
    ],
)
def test_what_would_end_the_client_comes_as_a_remote_error(
    run: Any, text: str, name: str, message: str
) -> None:
    error = run(raise_in(text))
    assert type(error) is RemoteError
    assert error.type_name.rpartition(".")[2] == name
    assert error.message == message
    assert (error.index, error.host, error.call_id) == (3, "host-1", "c-1")
    assert name in error.traceback_text
    assert f"{name}" in str(error)


def test_a_class_that_cannot_be_rebuilt_comes_as_a_remote_error_with_its_traceback(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nosuch_here", None)  # type: ignore[arg-type]
    text = (
        "import sys, types\nm = types.ModuleType('nosuch_here'); sys.modules['nosuch_here'] = m\n"
        "exec('class E(Exception): pass', vars(m))\nraise m.E('words')"
    )
    error = run(raise_in(text))
    assert type(error) is RemoteError
    assert str(error) == "nosuch_here.E: words"
    assert "E: words" in error.traceback_text


def test_cause_context_and_suppression_come_along(run: Any) -> None:
    def f(_: Any) -> None:
        try:
            try:
                {}["first"]
            except KeyError:
                raise NeedsTwo(1, "second")  # noqa: B904
        except NeedsTwo as error:
            raise ValueError("third") from error

    error = run(f)
    assert type(error) is ValueError
    assert type(error.__cause__) is NeedsTwo
    assert error.__suppress_context__
    assert error.__cause__ is error.__context__
    assert type(error.__cause__.__context__) is KeyError
    shown = text_of(error)
    assert "direct cause of" in shown
    assert "During handling of" in shown
    assert '{}["first"]' in shown


def test_raise_from_none_hides_the_context(run: Any) -> None:
    def f(_: Any) -> None:
        try:
            {}["first"]
        except KeyError:
            raise ValueError("second") from None

    error = run(f)
    assert error.__suppress_context__
    assert "KeyError" not in text_of(error)


def test_causes_in_a_circle_are_kept(run: Any) -> None:
    def f(_: Any) -> None:
        a, b = ValueError("a"), KeyError("b")
        a.__cause__, b.__cause__ = b, a
        raise a

    error = run(f)
    assert error.__cause__.__cause__ is error
    text_of(error)


def inner(x: Any) -> Any:
    return x["missing"]  # the line that fails


def outer(x: Any) -> Any:
    return inner(x)


def test_the_traceback_shows_the_remote_frames_and_their_lines_and_none_of_ours(run: Any) -> None:
    error = run(outer, {})
    with pytest.raises(KeyError) as caught:
        raise error
    shown = text_of(caught.value)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [(f.filename, f.name) for f in frames[1:]] == [(__file__, "outer"), (__file__, "inner")]
    assert frames[-1].lineno == inner.__code__.co_firstlineno + 1
    assert 'return x["missing"]  # the line that fails' in shown
    assert "_runner" not in shown
    assert "^" not in shown.split("in outer")[1]


def test_where_it_ran_is_in_a_note_and_on_the_exception(run: Any) -> None:
    error = run(outer, {})
    assert (error.index, error.call_id, error.host) == (3, "c-1", "host-1")
    assert error.__notes__ == ["input 3 of call c-1, on host host-1"]
    if sys.version_info >= (3, 11):
        assert "input 3 of call c-1, on host host-1" in text_of(error)


def test_the_host_is_the_one_the_agent_told_the_runner() -> None:
    with Agent() as agent:
        agent.begin(_payload.dump_function(raise_in("1 / 0")), env={"MUSTER_HOST": "host-2"})
        (result,) = agent.run([_payload.dump_input(None, 0)])
    error: Any = _payload.load_exception(result.item, Context(), 3)
    assert error.host == "host-2"
    assert error.__notes__ == ["input 3 of call c-1, on host host-2"]


def test_attributes_of_its_own_by_those_names_are_not_written_over(run: Any) -> None:
    def f(_: Any) -> None:
        error = ValueError("mine")
        error.index = "own"  # type: ignore[attr-defined]
        raise error

    error = run(f)
    assert (error.index, error.host) == ("own", "host-1")


def test_notes_come_along(run: Any) -> None:
    def f(_: Any) -> None:
        error = NeedsTwo(1, "x")
        error.__notes__ = ["first", "second"]
        raise error

    assert run(f).__notes__[:2] == ["first", "second"]


@pytest.mark.parametrize("depth", [5_000])
def test_endless_recursion_is_a_recursion_error_with_a_short_traceback(
    run: Any, depth: int
) -> None:
    def f(x: Any) -> Any:
        return f(x)

    error = run(f, depth)
    assert type(error) is RecursionError
    assert len(text_of(error)) < 10_000


def test_lines_of_files_that_are_not_here_are_shown_all_the_same(run: Any) -> None:
    file = "/nowhere/at all/made.py"

    def f(name: Any) -> None:
        import linecache

        text = "def g():\n    raise ValueError('far')\ng()\n"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"))

    error = run(f, file)
    shown = text_of(error)
    assert f"File \"{file}\", line 2, in g\n    raise ValueError('far')" in shown
    assert linecache.getline(file, 3) == "g()\n"
    del linecache.cache[file]


def test_groups_come_back_as_groups_of_real_exceptions(run: Any) -> None:
    if sys.version_info < (3, 11):
        return  # there are no groups before

    def f(_: Any) -> None:
        import builtins

        group: Any = vars(builtins)["ExceptionGroup"]
        try:
            raise NeedsTwo(1, "member")
        except NeedsTwo as member:
            inside = group("in", [KeyError("k")])
            raise group("many", [member, ValueError("v"), inside]) from None

    error = run(f)
    assert type(error).__name__ == "ExceptionGroup"
    assert [type(member) for member in error.exceptions[:2]] == [NeedsTwo, ValueError]
    assert error.exceptions[0].code == 1
    assert type(error.exceptions[2].exceptions[0]) is KeyError
    assert "raise NeedsTwo" in text_of(error)


def test_an_item_without_detail_is_a_remote_error() -> None:
    head = {"type": "E", "module": "m", "message": "words", "traceback": "Traceback: E"}
    for detail in (b"", b"garbage", pickle.dumps({"nodes": []})):
        item = muster._wire.exception_item(json.dumps(head).encode(), detail)
        error = _payload.load_exception(item, Context(), 0)
        assert type(error) is RemoteError
        assert str(error) == "m.E: words"
        assert error.traceback_text == "Traceback: E"


def test_remote_errors_can_be_pickled_themselves(run: Any) -> None:
    error = run(raise_in("raise SystemExit(1)"))
    again = pickle.loads(pickle.dumps(error))
    assert (again.type_name, again.index) == ("SystemExit", 3)


def test_uncaught_it_prints_as_if_it_had_run_here(tmp_path: Path) -> None:
    output = script(
        tmp_path,
        """
        import subprocess
        if len(sys.argv) == 1:
            done = subprocess.run([sys.executable, __file__, "child"], stderr=subprocess.PIPE, text=True)
            print(done.stderr)
            sys.exit(done.returncode != 1)
        class Mine(Exception):
            def __init__(self, a, b): super().__init__(a)
        def f(x):
            raise Mine("words", 2)  # here
        (error,) = remote(f, [1])
        assert type(error) is Mine
        raise error
        """,
    )
    lines = [line for line in output.splitlines() if line]
    at = next(n for n, line in enumerate(lines) if line.endswith("in f"))
    assert lines[at + 1] == '    raise Mine("words", 2)  # here'
    assert lines[at + 2].endswith("Mine: words")
    assert "\n\n" not in output.strip()


def test_frames_are_made_for_any_description() -> None:
    frames: List[Any] = [("<string>", 3, "<module>", None), ("/no/file.py", 0, "f", "text")]
    made = _exceptions.make_traceback(frames)
    assert [f.name for f in traceback.extract_tb(made)] == ["<module>", "f"]
    assert _exceptions.make_traceback([]) is None
    linecache.cache.pop("/no/file.py", None)
