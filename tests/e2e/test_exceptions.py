"""What the function raises is raised at the client as if it had run here."""

import time
import traceback

import muster
import pytest
from harness import small_map


@pytest.mark.smoke
def test_the_same_type_and_message_are_raised(service):
    def divide(x):
        return 1 / x

    with pytest.raises(ZeroDivisionError) as caught:
        small_map(divide, [1, 0])
    assert str(caught.value) == "division by zero"


def test_attributes_cause_and_context_come_along(service):
    def fail(_):
        try:
            {}["missing"]
        except KeyError as error:
            problem = OSError(5, "a message", "a file")
            problem.extra = {"deep": [1]}
            raise problem from error

    with pytest.raises(OSError) as caught:
        small_map(fail, [0])
    error = caught.value
    assert (error.errno, error.strerror, error.filename) == (5, "a message", "a file")
    assert error.extra == {"deep": [1]}
    assert type(error.__cause__) is KeyError
    assert error.__cause__.args == ("missing",)
    assert error.__suppress_context__


def test_the_context_comes_along_without_a_cause(service):
    def fail(_):
        try:
            int("x")
        except ValueError:
            raise RuntimeError("second")  # noqa: B904 - the context is what is tested

    with pytest.raises(RuntimeError) as caught:
        small_map(fail, [0])
    assert caught.value.__cause__ is None
    assert type(caught.value.__context__) is ValueError


def test_notes_come_along_and_one_names_the_input_the_call_and_the_host(service):
    def fail(x):
        error = ValueError("noted")
        # What `add_note` does, which older Pythons lack.
        error.__notes__ = ["a note of the user's"]
        raise error

    with pytest.raises(ValueError, match="noted") as caught:
        small_map(fail, [5])
    notes = caught.value.__notes__
    assert notes[0] == "a note of the user's"
    call = service.api.calls()[0]["id"]
    assert any(
        "0" in note and call in note and service.agents[0].name in note for note in notes[1:]
    ), notes


def test_index_call_and_host_are_on_the_exception(service):
    def fail(x):
        if x == 3:
            raise LookupError(x)

    with pytest.raises(LookupError) as caught:
        small_map(fail, range(5))
    assert caught.value.index == 3
    assert caught.value.call_id == service.api.calls()[0]["id"]
    assert caught.value.host == service.agents[0].name


def test_the_traceback_shows_the_remote_frames_with_their_source_lines(script, tmp_path):
    (tmp_path / "helper.py").write_text(
        "def inner(x):\n    return 1 / x  # the line in the module\n"
    )
    source = """
import helper
import muster

def outer(x):
    return helper.inner(x)  # the line in the script

muster.remote_parallel_map(outer, [0], func_ram=0.25, spinner=False)
"""
    running = script(source)
    assert running.end() == 1
    text = running.stderr.decode()
    assert (
        f'File "{tmp_path}/script.py", line 6, in outer\n'
        "    return helper.inner(x)  # the line in the script" in text
    )
    assert (
        f'File "{tmp_path}/helper.py", line 2, in inner\n    return 1 / x  # the line in the module'
        in text
    )
    assert "ZeroDivisionError: division by zero" in text
    assert (
        text.index("muster.remote_parallel_map(outer")
        < text.index("in outer")
        < text.index("in inner")
    )


def test_the_tracebacks_frames_are_there_for_code_too(service):
    def fail(x):
        raise ValueError("here")  # a comment to look for

    with pytest.raises(ValueError, match="here") as caught:
        small_map(fail, [0])
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "fail"
    assert frames[-1].filename == __file__
    assert frames[-1].line == 'raise ValueError("here")  # a comment to look for'


def test_exception_classes_of_the_script_arrive_as_themselves(script):
    source = """
import muster

class Plain(Exception):
    pass

class Needy(Exception):
    def __init__(self, code, *, why):
        super().__init__(f"{code}: {why}")
        self.code, self.why = code, why

class Holding(Exception):
    def __init__(self, text):
        super().__init__(text)
        import threading
        self.lock = threading.Lock()
        self.kept = text

class Child(Plain, LookupError):
    pass

def fail(kind):
    if kind == "plain":
        raise Plain("one", 2)
    if kind == "needy":
        raise Needy(7, why="because")
    if kind == "holding":
        raise Holding("unpicklable inside")
    if kind == "child":
        raise Child("c") from Plain("p")

kinds = ["plain", "needy", "holding", "child"]
plain, needy, holding, child = muster.remote_parallel_map(
    fail, kinds, func_ram=0.25, spinner=False, return_exceptions=True
)
assert type(plain) is Plain and plain.args == ("one", 2), repr(plain)
assert type(needy) is Needy and str(needy) == "7: because", repr(needy)
assert (needy.code, needy.why) == (7, "because"), vars(needy)
assert "unpicklable inside" in str(holding), repr(holding)
if type(holding) is Holding:
    assert holding.kept == "unpicklable inside"
else:
    assert type(holding) is muster.RemoteError, repr(holding)
    assert holding.type_name.endswith("Holding"), holding.type_name
    assert "raise Holding" in holding.traceback_text, holding.traceback_text
assert type(child) is Child and isinstance(child, LookupError), repr(child)
assert type(child.__cause__) is Plain, repr(child.__cause__)
print("fine")
"""
    assert script(source).succeed() == b"fine\n"


def test_an_exception_that_cannot_be_rebuilt_arrives_as_a_remote_error(service):
    def fail(_):
        class Hostile(Exception):
            def __reduce__(self):
                raise RuntimeError("not to be pickled")

            def __getstate__(self):
                raise RuntimeError("not to be pickled")

        raise Hostile("the text")

    (error,) = small_map(fail, [0], return_exceptions=True)
    assert "the text" in str(error)
    if isinstance(error, muster.RemoteError):
        assert error.type_name.endswith("Hostile")
        assert error.message == "the text"
        assert 'raise Hostile("the text")' in error.traceback_text
    else:
        assert type(error).__name__ == "Hostile"


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "sys.exit"])
def test_an_exit_or_interrupt_raised_by_the_function_does_not_end_the_client_silently(script, kind):
    source = f"""
import sys
import muster

def leave(_):
    {"sys.exit(0)" if kind == "sys.exit" else f"raise {kind}(0)"}

try:
    muster.remote_parallel_map(leave, [1], func_ram=0.25, spinner=False)
except Exception as error:
    assert "SystemExit" in str(error) or "KeyboardInterrupt" in str(error), repr(error)
    print("caught as an ordinary exception")
"""
    assert script(source).succeed() == b"caught as an ordinary exception\n"


@pytest.mark.parametrize("generator", [False, True])
def test_the_first_failure_stops_the_call_though_other_inputs_would_run_for_minutes(
    service, generator
):
    def run(x):
        if x == 1:
            raise ValueError("stop")
        time.sleep(600)

    with pytest.raises(ValueError, match="stop"):
        list(small_map(run, range(100), generator=generator))


def test_return_exceptions_puts_them_in_their_places(service):
    def run(x):
        if x % 2:
            raise ValueError(x)
        return x

    outputs = small_map(run, range(6), return_exceptions=True)
    assert outputs[::2] == [0, 2, 4]
    assert [(type(error), error.args, error.index) for error in outputs[1::2]] == [
        (ValueError, (x,), x) for x in (1, 3, 5)
    ]


def test_a_function_that_cannot_be_loaded_there_says_so(script, tmp_path):
    (tmp_path / "fragile.py").write_text(
        "import os\nif 'MUSTER_CALL_ID' in os.environ:\n    raise OSError('only at home')\n\n"
        "def run(x):\n    return x\n"
    )
    source = """
import fragile, muster
try:
    muster.remote_parallel_map(fragile.run, [1], func_ram=0.25, spinner=False)
except OSError as error:
    assert "only at home" in str(error)
    print("said so")
"""
    assert script(source).succeed() == b"said so\n"


def test_an_output_that_cannot_be_pickled_is_an_error_of_that_input_alone(service):
    def run(x):
        import threading

        return threading.Lock() if x == 1 else x

    outputs = small_map(run, range(3), return_exceptions=True)
    assert outputs[0] == 0
    assert outputs[2] == 2
    assert isinstance(outputs[1], Exception)
    assert "lock" in str(outputs[1])
