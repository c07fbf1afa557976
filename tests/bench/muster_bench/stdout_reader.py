"""Reads the client's stdout, as a program behind a pipe would, and verifies every line.

`python -m muster_bench.stdout_reader REQUESTS ANSWERS`: stdin is the pipe. On the file descriptor REQUESTS it gets one
letter at a time and answers with one line of JSON on ANSWERS: `m` how many lines have arrived by now, `v` whether they
are right. Lines are only counted as they come; they are verified when the clock has stopped.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

LINE = re.compile(rb"(\d{4} \d{6}) x{67}\Z")


@dataclass(frozen=True)
class Verdict:
    """How many different expected lines arrived, how many lines were torn or not expected, how many came twice."""

    right: int
    wrong: int
    twice: int


def verify(data: bytes) -> Verdict:
    """Judges lines. What a system puts before a line (which task wrote it) is allowed."""
    seen: Counter[bytes] = Counter()
    wrong = 0
    for line in data.splitlines():
        match = LINE.search(line)
        if match:
            seen[match[1]] += 1
        else:
            wrong += 1
    return Verdict(len(seen), wrong, sum(seen.values()) - len(seen))


class StdoutReader:
    """The other end: makes a pipe this process's stdout, with the reader behind it."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        request_out, self._requests = os.pipe()
        answers, answer_in = os.pipe()
        self._answers = os.fdopen(answers)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "muster_bench.stdout_reader", str(request_out), str(answer_in)],
            stdin=reading,
            pass_fds=(request_out, answer_in),
        )
        for descriptor in (reading, request_out, answer_in):
            os.close(descriptor)
        os.dup2(writing, 1)
        os.close(writing)

    def arrived(self) -> int:
        """Lines that can be read by now."""
        os.write(self._requests, b"m")
        return int(json.loads(self._answers.readline()))

    def verdict(self) -> Verdict:
        """On all lines so far."""
        os.write(self._requests, b"v")
        return Verdict(**json.loads(self._answers.readline()))


def main(requests: int, answers: int) -> None:
    parts: list[bytes] = []
    lines = 0
    listening = [0, requests]
    while requests in listening:
        ready, _, _ = select.select(listening, [], [])
        if 0 in ready:
            data = os.read(0, 1 << 20)
            parts.append(data)
            lines += data.count(b"\n")
            if not data:
                listening.remove(0)
            continue
        # Asked only while the pipe is empty, so that the answer counts all that was written.
        letter = os.read(requests, 1)
        if not letter:
            return
        answer = lines if letter == b"m" else verify(b"".join(parts)).__dict__
        os.write(answers, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
