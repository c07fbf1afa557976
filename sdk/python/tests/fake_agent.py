"""The agent's end of PROTOCOL.md section 6, small: starts the real runner as a process and talks to it."""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from muster import _wire

SOURCE = str(Path(__file__).resolve().parent.parent / "src")
DEADLINE = 30.0
START = (
    "import sys; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if p];"
    "c, p = map(int, sys.argv[2:4]); from muster._runner import main; main(c, p)"
)


Record = Tuple[int, int, int, int, bytes]


class Result(NamedTuple):
    index: int
    status: int
    item: bytes
    out: bytes
    err: bytes


def each(runs: List[Tuple[int, int, int, int, bytes, int]]) -> Iterator[Record]:
    """The results of records, one by one."""
    for index, out_end, err_end, status, items, count in runs:
        size = len(items) // count
        for n in range(count):
            yield index + n, out_end, err_end, status, items[n * size : (n + 1) * size]


class Agent:
    """One runner. `with Agent() as agent: agent.begin(...); agent.run([...])`."""

    def __init__(self, env: Optional[Dict[str, str]] = None, delay_reads: bool = False) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(DEADLINE)
        self._tmp = tempfile.TemporaryDirectory()
        page = os.memfd_create("page")
        os.ftruncate(page, 1 << 20)
        self.page = mmap.mmap(page, 1 << 20)
        self.words = memoryview(self.page)[:4096].cast("Q")
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, SOURCE, str(theirs.fileno()), str(page)],
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=[theirs.fileno(), page],
            start_new_session=True,
            env={**os.environ, "TMPDIR": self._tmp.name, **(env or {})},
        )
        theirs.close()
        for descriptor in (page, out_write, err_write):
            os.close(descriptor)
        self.text = {1: bytearray(), 2: bytearray()}
        self.may_read = threading.Event()
        if not delay_reads:
            self.may_read.set()
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(out_read, err_read), daemon=True)
        self._reader.start()
        self.decoder = _wire.Decoder()
        self._ends = [0, 0]
        kind, self.hello = self.frame()
        assert kind == _wire.HELLO

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.sock.close()
        self.may_read.set()
        try:
            self.process.wait(DEADLINE)
        finally:
            self.process.kill()
            self.process.wait()
            self._tmp.cleanup()

    def _read(self, out: int, err: int) -> None:
        """Reads both pipes as the agent does, and keeps the page's counts."""
        poll = select.poll()
        open_pipes = {out: 1, err: 2}
        for descriptor in open_pipes:
            poll.register(descriptor, select.POLLIN)
        self.may_read.wait()
        while open_pipes:
            for descriptor, _ in poll.poll():
                stream = open_pipes[descriptor]
                self.words[0] += 1
                data = os.read(descriptor, 65536)
                self.words[stream] += len(data)
                self.words[0] += 1
                with self._changed:
                    self.text[stream] += data
                    if not data:
                        poll.unregister(descriptor)
                        del open_pipes[descriptor]
                        os.close(descriptor)
                    self._changed.notify_all()

    def wait_text(self, stream: int, end: int) -> None:
        """Waits until that many bytes of the stream were read."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.text[stream]) >= end, DEADLINE)
        assert done, f"only {len(self.text[stream])} of {end} bytes came"

    def frame(self) -> Tuple[int, bytes]:
        while True:
            found = self.decoder.next_frame()
            if found is not None:
                return found[0], found[2]
            data = self.sock.recv(1 << 20)
            if not data:
                raise EOFError
            self.decoder.push(data)

    def begin(self, function: bytes, secrets: Optional[Dict[str, str]] = None, **spec: Any) -> None:
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        full = {"call": "c-1", "kind": "pickle", "encoding": "pickle", "image": "muster/python:x"}
        full.update({"python": python, "env": {}, **spec})
        self.sock.sendall(_wire.frame(_wire.SPEC, json.dumps(full).encode()))
        if secrets is not None:
            self.sock.sendall(_wire.frame(_wire.SECRETS, json.dumps(secrets).encode()))
        self.sock.sendall(_wire.frame(_wire.FUNCTION, function))

    def send(self, items: List[bytes], first: int = 0, attempt: int = 1) -> None:
        self.sock.sendall(_wire.inputs_frame(first, items, attempt))

    def run(self, items: List[bytes], first: int = 0, attempt: int = 1) -> List[Result]:
        """One batch, and what each input returned and wrote."""
        self.send(items, first, attempt)
        return self.results(len(items))

    def results(self, count: int) -> List[Result]:
        results: List[Result] = []
        while len(results) < count:
            kind, body = self.frame()
            assert kind == _wire.RESULTS
            for index, out_end, err_end, status, item in each(_wire.decode_results(body)):
                self.wait_text(1, out_end)
                self.wait_text(2, err_end)
                out = bytes(self.text[1][self._ends[0] : out_end])
                err = bytes(self.text[2][self._ends[1] : err_end])
                self._ends = [out_end, err_end]
                results.append(Result(index, status, item, out, err))
        return results

    def pending(self) -> List[Tuple[int, int, int, int, bytes]]:
        """The results that lie on the page."""
        length = self.words[14]
        return list(each(_wire.decode_results(self.page[4096 : 4096 + length])))

    def state(self) -> Tuple[int, int, int, int]:
        """index, out_start, err_start, running."""
        return struct.unpack_from("<4Q", self.page, 72)
