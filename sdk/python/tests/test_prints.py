"""Prints reach `sys.stdout` and `sys.stderr` as they are at that moment."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys

import pytest

from muster import remote_parallel_map
from muster._lines import STDERR, STDOUT
from muster._prints import Prints


def feed_all(*pieces: tuple[int, int, bytes]) -> None:
    prints = Prints()
    for piece in pieces:
        prints.feed(*piece)
        prints.flush()
    prints.end()


def test_pytest_can_capture_them_by_descriptor(capfdbinary):
    feed_all((0, STDOUT, b"out \xff\n\n"), (0, STDERR, b"err\n"))
    assert capfdbinary.readouterr() == (b"out \xff\n\n", b"err\n")


def test_pytest_can_capture_them_by_stream(capsys):
    feed_all((0, STDOUT, "größe\n".encode()), (0, STDERR, b"err\n"))
    assert capsys.readouterr() == ("größe\n", "err\n")


def test_a_writer_of_text_gets_text_even_when_a_character_is_cut_in_two():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        prints = Prints()
        prints.total(1)
        for byte in "ä€😀\n".encode():
            prints.feed(0, STDOUT, bytes([byte]))
            prints.flush()
        prints.feed(0, STDOUT, b"\xff and cut \xe2\x82")
        prints.end()
    assert out.getvalue() == "ä€😀\n\ufffd and cut \ufffd"


def test_what_the_user_printed_before_comes_before(capfdbinary):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=False)
    with contextlib.redirect_stdout(out):
        print("mine")
        feed_all((0, STDOUT, b"theirs\n"))
        print("mine again")
    out.flush()
    assert out.buffer.getvalue() == b"mine\ntheirs\nmine again\n"


def test_a_stream_that_takes_less_than_it_is_given_still_gets_all():
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.got = b""

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.got += bytes(data[:3])
            return min(len(data), 3)

    class Unbuffered(io.StringIO):
        buffer = Slow()

    with contextlib.redirect_stdout(Unbuffered()) as out:
        feed_all((0, STDOUT, b"0123456789\n"))
    assert out.buffer.got == b"0123456789\n"


def test_a_process_without_stdout_prints_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", None)
    feed_all((0, STDOUT, b"gone\n"))


def test_everything_a_function_prints_is_there_before_its_output_is(gateway, capfdbinary):
    from fake_gateway import say

    def run(x):
        say(b"line %d\n\nhalf " % x)
        say(b"other\n" * 3, 2)
        say(b"of %d\n" % x)
        return x

    seen = []
    for value in remote_parallel_map(run, range(20), generator=True, spinner=False):
        seen.append(capfdbinary.readouterr().out)
        assert b"half of %d\n" % value in b"".join(seen)
    got = b"".join(seen)
    assert sorted(got.splitlines()) == sorted(
        [b"line %d" % x for x in range(20)] + [b""] * 20 + [b"half of %d" % x for x in range(20)]
    )


def test_a_hundred_thousand_lines_of_one_input_are_exact(gateway, capfdbinary):
    from fake_gateway import say

    text = b"".join(b"line %d\n" % number for number in range(100_000))

    def run(_):
        for at in range(0, len(text), 65_521):
            say(text[at : at + 65_521])

    remote_parallel_map(run, [0], spinner=False)
    assert capfdbinary.readouterr().out == text


def test_prints_appear_while_the_users_generator_is_slow(gateway, capfdbinary):
    from fake_gateway import say

    seen = bytearray()

    def inputs():
        yield 1

        def appeared() -> bool:
            seen.extend(capfdbinary.readouterr().out)
            return b"printed 1\n" in seen

        gateway.until("the print of the first input appears", appeared)
        yield 2

    def run(x):
        say(b"printed %d\n" % x)
        return x

    assert remote_parallel_map(run, inputs(), spinner=False) == [1, 2]


def test_a_closed_stdout_behaves_like_print(gateway):
    source = """
import sys, muster
sys.path.insert(0, sys.argv[1])
from fake_gateway import Gateway, TOKEN, say
def run(x):
    say(b"x" * 100 + b"\\n")
    return x
with Gateway() as gateway:
    try:
        for inputs in ([1], (x for x in range(3000))):
            muster.remote_parallel_map(run, inputs, url=gateway.url, token=TOKEN)
    except BrokenPipeError:
        print("broken pipe", end="", file=sys.stderr, flush=True)
    gateway.until("the call is cancelled", lambda: all(call.state != "running" for call in gateway.calls.values()))
import os
os._exit(0)
"""
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", source, os.path.dirname(__file__)],
        stdout=write,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(write)
        os.close(read)
        _, err = process.communicate(timeout=30)
    assert err == b"broken pipe"
