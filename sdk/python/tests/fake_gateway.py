"""A gateway that speaks the client's half of the protocol and runs functions in this very process.

Real frames over real HTTP, real payloads; no containers. Functions write prints with `say`, end their "worker" with
`die`, and tests steer the rest through the attributes of `Gateway`.
"""

from __future__ import annotations

import json
import pickle
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cloudpickle

from muster import _wire
from muster._runner import _describe

TOKEN = "muster_test_token"
SHARES = [
    {"name": "data", "writable": False, "there": True},
    {"name": "out", "writable": True, "there": False},
]
_here = threading.local()


def say(data: bytes, stream: int = _wire.STDOUT) -> None:
    """What a function that is run by the fake prints."""
    call, index, attempt = _here.running
    call.log(_wire.PRINT, _wire.PRINT_HEAD.pack(index, attempt, stream) + data)


class Died(BaseException):
    """The function's worker ends."""


def die(**failure: Any) -> None:
    """End the input that runs now with a failure such as code="worker_died", exit_code=3."""
    raise Died(failure)


def _pickled_function(body: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", body)
    return body[len(body) - json.loads(body[4 : 4 + size])["function_len"] :]


class FakeCall:
    """One call: its inputs, its log, and the threads that run it."""

    def __init__(
        self, gateway: Gateway, number: int, spec: dict[str, Any], function: bytes
    ) -> None:
        self.id = f"call{number}"
        self.gateway = gateway
        self.spec = spec
        self.function = function
        self.changed = threading.Condition()
        self.events: list[tuple[int, int, int, bytes]] = []  # (seq, count, kind, body)
        self.seq = 0
        self.inputs = 0
        self.total: int | None = None
        self.waiting: list[tuple[int, bytes]] = []
        self.done = self.failed = self.running = self.skipped = 0
        self.state = "running"
        self.progress: dict[str, Any] | None = None
        self.progress_number = 0

    def log(self, kind: int, body: bytes, count: int = 1) -> None:
        if kind in self.gateway.lost:
            kind, body = _wire.EVENT, json.dumps({"type": "damaged", "events": count}).encode()
        with self.changed:
            if self.state in ("running", "queued") or kind == _wire.EVENT:
                self.events.append((self.seq + 1, count, kind, body))
                self.seq += count
                self.changed.notify_all()

    def event(self, **event: Any) -> None:
        self.log(_wire.EVENT, json.dumps(event).encode())

    def add(self, first: int, items: list[Any]) -> None:
        with self.changed:
            assert first == self.inputs, "a gap in the inputs"
            self.waiting += [(first + at, bytes(item)) for at, item in enumerate(items)]
            self.inputs += len(items)
            self.changed.notify_all()

    def skip(self, first: int, count: int) -> None:
        with self.changed:
            assert first == self.inputs, "a gap in the inputs"
            self.inputs += count
            self.done += count
            self.skipped += count

    def close(self, total: int) -> None:
        with self.changed:
            assert total == self.inputs
            self.total = total
            self.changed.notify_all()
        self.finish_if_done()

    def start(self) -> None:
        self.event(type="state", state="running", call=self.id)
        for _ in range(self.spec.get("max_parallelism") or self.gateway.workers):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        function = pickle.loads(_pickled_function(self.function))
        while True:
            with self.changed:
                while not self.waiting and self.state == "running" and self.total is None:
                    self.changed.wait()
                if not self.waiting or self.state != "running":
                    return
                batch, self.waiting = self._batch()
            first = batch[0][0]
            outputs = []
            for index, item in batch:
                _here.running = (self, index, 1)
                outputs.append(self._run(function, index, item))
            lengths = struct.pack(f"<{len(outputs)}I", *[len(item) for _, item in outputs])
            body = (
                _wire.BATCH.pack(first, 1, len(outputs))
                + lengths
                + bytes([status for status, _ in outputs])
            )
            failed = sum(1 for status, _ in outputs if status)
            with self.changed:
                self.log(_wire.OUTPUTS, body + b"".join(item for _, item in outputs), len(outputs))
                self.done += len(outputs)
                self.failed += failed
            if failed and self.spec.get("on_error") == "stop":
                index = first + next(at for at, (status, _) in enumerate(outputs) if status)
                self.end("failed", {"code": "input_failed", "index": index})
            self.finish_if_done()

    def _batch(self) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        size = self.gateway.batch
        return self.waiting[:size], self.waiting[size:]

    def _run(self, function: Any, index: int, item: bytes) -> tuple[int, bytes]:
        try:
            return _wire.VALUE, cloudpickle.dumps(function(pickle.loads(item)))
        except Died as death:
            failure = {"message": "it died", "host": "fake-host", **death.args[0]}
            return _wire.FAILURE, json.dumps(failure).encode()
        except BaseException as error:
            return _wire.EXCEPTION, _describe.item(error, True, "fake")

    def finish_if_done(self) -> None:
        if self.total is not None and self.done >= self.total:
            self.end("failed" if self.failed else "succeeded", None)

    def end(self, state: str, error: dict[str, Any] | None) -> None:
        with self.changed:
            if self.state not in ("running", "queued"):
                return
            self.state = state
            self.event(
                type="end",
                state=state,
                done=self.done,
                failed=self.failed,
                total=self.total,
                error=error,
            )

    def tell(self, **progress: Any) -> None:
        """Send a progress event to whoever reads."""
        with self.changed:
            self.progress = {
                "type": "progress",
                "done": self.done,
                "total": self.total,
                "waiting": None,
                **progress,
            }
            self.progress_number += 1
            self.changed.notify_all()

    def frames(self, after: int) -> Iterator[bytes]:
        """The events after `after`, live until the end."""
        at, told = 0, 0
        while True:
            with self.changed:
                while (
                    at < len(self.events) and self.events[at][0] + self.events[at][1] - 1 <= after
                ):
                    at += 1
                ready = self.events[at : at + 500]
                progress = None
                if not ready:
                    if self.progress is not None and told != self.progress_number:
                        progress, told = self.progress, self.progress_number
                    elif self.state not in ("running", "queued") or self.gateway.closing:
                        return
                    else:
                        self.changed.wait(1.0)
                        continue
            if progress is not None:
                yield _wire.frame(_wire.EVENT, json.dumps(progress).encode(), self.seq)
            else:
                at += len(ready)
                yield b"".join([_wire.frame(kind, body, seq) for seq, _, kind, body in ready])

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id, "name": self.spec.get("name"), "state": self.state, "done": self.done, "failed": self.failed,
            "total": self.total, "inputs": self.inputs, "workers": self.running, "hosts": 1, "waiting": None,
            "seq": self.seq, "cpu": self.spec["cpu"], "ram": self.spec["ram"], "image": "fake",
            "background": bool(self.spec.get("background")), "created": None, "ended": None, "error": None,
        }  # fmt: skip


class Gateway:
    """The fake; `with Gateway() as gateway:` serves on a free port of loopback."""

    def __init__(self) -> None:
        self.workers = 2
        self.batch = 1
        # Hang up an answer of events after so many frames, for each number in it once.
        self.hang_up_after: list[int] = []
        # Answer creation with this (status, problem) for once.
        self.refusals: list[tuple[int, dict[str, Any]]] = []
        # Kinds of frames that the disk damages.
        self.lost: set[int] = set()
        self.closing = False
        self.hold_creation = threading.Event()
        self.hold_creation.set()
        self.requests: list[tuple[str, str]] = []
        self.calls: dict[str, FakeCall] = {}
        self.secrets: dict[str, str] = {}
        self.keys: dict[str, FakeCall] = {}
        self.connections = 0
        self.created = 0
        self.lock = threading.Lock()
        gateway = self

        class Handler(_Handler):
            fake = gateway

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def call(self) -> FakeCall:
        """The only call."""
        (call,) = self.calls.values()
        return call

    def __enter__(self) -> Gateway:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing = True
        self.hold_creation.set()
        for call in self.calls.values():
            call.end("cancelled", None)
        self.server.shutdown()
        self.server.server_close()

    def restart(self, end: bool = False) -> FakeCall:
        """Forget the only call, as a gateway does that is started anew; with `end` it says before that it stops."""
        with self.lock:
            call = self.call
            self.calls.clear()
            self.keys.clear()
        if end:
            call.end("cancelled", {"code": "stopping", "message": "it stops", "action": ""})
        with call.changed:
            call.state = "lost"
            call.changed.notify_all()
        return call

    def until(self, what: str, condition: Any, seconds: float = 10.0) -> None:
        """Wait for a condition with a deadline."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.002)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up; that is theirs to do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    fake: Gateway

    def setup(self) -> None:
        super().setup()
        with self.fake.lock:
            self.fake.connections += 1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError):
            pass

    def do_GET(self) -> None:
        self.route("GET")

    def do_POST(self) -> None:
        self.route("POST")

    def do_PUT(self) -> None:
        self.route("PUT")

    def do_DELETE(self) -> None:
        self.route("DELETE")

    def route(self, method: str) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.fake.lock:
            self.fake.requests.append((method, url.path))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.problem(
                401, code="unauthenticated", detail="the token is wrong", action="Set MUSTER_TOKEN."
            )
        parts = url.path.strip("/").split("/")
        if method == "POST" and parts == ["v1", "calls"]:
            return self.create(body)
        if method == "GET" and parts == ["v1", "calls"]:
            return self.answer(200, {"calls": [call.record() for call in self.fake.calls.values()]})
        if method == "GET" and parts == ["v1", "hosts"]:
            return self.answer(200, {"hosts": [{"host": "fake-host", "shares": SHARES}]})
        if parts[:2] == ["v1", "secrets"]:
            return self.secret(method, parts[2:], body)
        if parts == ["v1", "hosts", "fake-host", "drain"]:
            state = {"POST": "draining", "DELETE": "ready"}[method]
            return self.answer(200, {"host": "fake-host", "state": state})
        call = self.fake.calls.get(parts[2]) if len(parts) > 2 else None
        if call is None:
            return self.problem(
                404,
                code="unknown_call",
                detail=f"there is no call {parts[-1]}",
                action="Check the id.",
            )
        if method == "DELETE":
            call.end("cancelled", None)
            return self.answer(202, call.record())
        if parts[3:] == ["inputs"]:
            return self.append(call, body)
        if parts[3:] == ["events"]:
            return self.stream(call, int(parse_qs(url.query)["after"][0]))
        if parts[3:] == ["function"]:
            return self.raw(200, "application/octet-stream", call.function)
        return self.answer(200, call.record())

    def secret(self, method: str, named: list[str], body: bytes) -> None:
        secrets = self.fake.secrets
        if method == "GET":
            return self.answer(200, {"secrets": [{"name": name} for name in sorted(secrets)]})
        (name,) = named
        if method == "PUT":
            status = 200 if name in secrets else 201
            secrets[name] = json.loads(body)["value"]
            return self.answer(status, {"name": name})
        if secrets.pop(name, None) is None:
            return self.problem(
                404, code="unknown_secret", detail=f"There is no secret `{name}`.", action="Set it."
            )
        return self.answer(200, {})

    def create(self, body: bytes) -> None:
        fake = self.fake
        if fake.refusals:
            status, problem = fake.refusals.pop(0)
            return self.problem(status, **problem)
        fake.hold_creation.wait(10)
        with fake.lock:
            key = self.headers["Idempotency-Key"]
            call = fake.keys.get(key)
            fresh = call is None
            if call is None:
                decoder = _wire.Decoder()
                decoder.push(body)
                frames = list(decoder)
                spec = json.loads(frames[0][2])
                fake.created += 1
                call = FakeCall(fake, fake.created, spec, frames[1][2])
                fake.calls[call.id] = fake.keys[key] = call
        if fresh:
            call.start()
            self.take(call, frames[2:])
        elif call.spec.get("background") and call.total is None:
            decoder = _wire.Decoder()
            decoder.push(body)
            self.take(call, list(decoder)[2:])
        if call.spec.get("background"):
            return self.answer(201, call.record(), call)
        return self.stream(call, 0)

    def append(self, call: FakeCall, body: bytes) -> None:
        if call.state != "running":
            return self.problem(409, code="call_ended", detail="the call has ended", action="")
        decoder = _wire.Decoder()
        decoder.push(body)
        self.take(call, list(decoder))
        return self.answer(200, {"inputs": call.inputs})

    def take(self, call: FakeCall, frames: list[tuple[int, int, bytes]]) -> None:
        for kind, _seq, content in frames:
            if kind == _wire.INPUTS:
                first, _attempt, items = _wire.decode_inputs(content)
                if first + len(items) > call.inputs:
                    known = call.inputs - first
                    call.add(call.inputs, items[known:])
            elif kind == _wire.SKIP:
                call.skip(*struct.unpack("<QQ", content))
            else:
                call.close(struct.unpack("<Q", content)[0])

    def stream(self, call: FakeCall, after: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", _wire.FRAMES_TYPE)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Muster-Call", call.id)
        self.end_headers()
        self.wfile.flush()
        left = self.fake.hang_up_after.pop(0) if self.fake.hang_up_after else None
        for frames in call.frames(after):
            if left is not None:
                # In the middle of a frame, where it hurts.
                frames, left = frames[: max(left, 0)], left - len(frames)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(frames), frames) if frames else b"")
            self.wfile.flush()
            if left is not None and left <= 0:
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def problem(self, status: int, **problem: Any) -> None:
        self.raw(
            status, "application/problem+json", json.dumps({"status": status, **problem}).encode()
        )

    def answer(self, status: int, body: Any, call: FakeCall | None = None) -> None:
        self.raw(status, "application/json", json.dumps(body).encode(), call)

    def raw(self, status: int, kind: str, body: bytes, call: FakeCall | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if call is not None:
            self.send_header("Muster-Call", call.id)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
