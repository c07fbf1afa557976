"""Many connections from one process, and what takes how long beside them."""

import http.client
import itertools
import json
import socket
import threading
import time
from urllib.parse import urlsplit

SOURCES = [f"127.0.0.{last}" for last in range(2, 12)]
# Slow readers take their turns all through a second, as clients do that know nothing of each other.
TURNS = 100


class Crowd:
    """So many connections with the same request each, from several addresses; a context manager.
    `buffer`: how much each of them takes unread."""

    def __init__(self, api, size, path, buffer=None):
        self._api = api
        self._size = size
        self._path = path
        self._buffer = buffer
        self._stopped = threading.Event()
        self._reader = None
        self.ended = 0
        self.sockets = []

    def __enter__(self):
        address = urlsplit(self._api.url)
        head = (
            f"GET {self._path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {self._api.token}\r\n\r\n"
        ).encode()
        for number in range(self._size):
            sock = socket.socket()
            self.sockets.append(sock)
            sock.settimeout(10)
            if self._buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            sock.bind((SOURCES[number % len(SOURCES)], 0))
            sock.connect((address.hostname, address.port))
            sock.sendall(head)
        for sock in self.sockets:
            status = sock.recv(12)
            assert status == b"HTTP/1.1 200", status
        return self

    def __exit__(self, *_):
        self._stopped.set()
        if self._reader:
            self._reader.join()
        for sock in self.sockets:
            sock.close()

    def read_slowly(self, bytes_each_second):
        """Reads so much of every connection each second, in a thread, until the end; `ended` counts those
        that the gateway closed meanwhile."""
        self._reader = threading.Thread(target=self._read_slowly, args=(bytes_each_second,))
        self._reader.start()

    def _read_slowly(self, size):
        for sock in self.sockets:
            sock.setblocking(False)
        due = time.monotonic()
        for turn in itertools.cycle([self.sockets[at::TURNS] for at in range(TURNS)]):
            due += 1 / TURNS
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                return
            ended = [sock for sock in turn if not self._takes(sock, size)]
            self.ended += len(ended)
            for sock in ended:
                turn.remove(sock)

    @staticmethod
    def _takes(sock, size):
        try:
            return bool(sock.recv(size))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    def open(self):
        """How many the gateway has not closed; reads what has come meanwhile."""
        alive = 0
        for sock in self.sockets:
            sock.setblocking(False)
            try:
                while sock.recv(1 << 16):
                    pass
            except BlockingIOError:
                alive += 1
            except ConnectionError:
                pass
        return alive


class Latencies:
    """How long what was asked for took, in seconds."""

    def __init__(self, taken):
        self._taken = sorted(taken)

    def at(self, share):
        """The latency that so many of a hundred do not exceed."""
        return self._taken[min(len(self._taken) - 1, int(len(self._taken) * share / 100))]

    def within_twice(self, alone, noise):
        """Whether half of them, and all but one of a hundred, took at most twice as long as `alone`, and
        what a busy machine adds by itself: `noise`, in seconds, for the one and the other."""
        shares = zip((50, 99), noise)
        return all(self.at(share) <= 2 * alone.at(share) + more for share, more in shares)

    def __str__(self):
        milliseconds = [f"{self.at(share) * 1000:.2f}" for share in (50, 99, 100)]
        return f"p50 {milliseconds[0]} ms, p99 {milliseconds[1]} ms, worst {milliseconds[2]} ms"


def at_rate(ask, seconds, rate):
    """Asks so many times a second, one after another, and says how long it took from the moment each
    was due."""
    taken = []
    began = time.monotonic()
    for number in range(int(seconds * rate)):
        due = began + number / rate
        time.sleep(max(0.0, due - time.monotonic()))
        ask()
        taken.append(time.monotonic() - due)
    return Latencies(taken)


def one_by_one(ask, seconds):
    """Asks again as soon as the one before is done, and says how long each took."""
    taken = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.monotonic()
        ask()
        taken.append(time.monotonic() - began)
    return Latencies(taken)


class Line:
    """One connection to a gateway, for one request after another; a context manager."""

    def __init__(self, api):
        address = urlsplit(api.url)
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        self._bearer = {"Authorization": f"Bearer {api.token}"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def ask(self, method, path, body=None, media_type="application/json"):
        """An answer whose body is still to be read; its status is 200."""
        headers = {**self._bearer, "Content-Type": media_type} if body else self._bearer
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        return answer


def latencies(api, path, seconds, rate=500):
    """How long `path` takes, asked for at this rate on one connection."""
    with Line(api) as line:
        return at_rate(lambda: line.ask("GET", path).read(), seconds, rate)


def calls(api, seconds):
    """How long calls take from their request to their last event, each in a container of its own, one
    after another."""
    body = json.dumps({"command": ["true"], "inputs": [""], "ram": 0.25})
    with Line(api) as line:

        def call():
            *_, last = map(json.loads, line.ask("POST", "/v1/calls", body))
            assert last["state"] == "succeeded", last

        return one_by_one(call, seconds)


def inputs(api, seconds, rate):
    """How long an input takes from its request to its output, in a call that runs already."""
    function = {"source": "def same(x):\n    return x\n", "entry": "same"}
    body = json.dumps({**function, "more_inputs": True, "ram": 0.25, "max_parallelism": 1})
    numbers = itertools.count()
    with Line(api) as listening, Line(api) as line:
        events = listening.ask("POST", "/v1/calls", body)
        call = events.headers["Muster-Call"]

        def give():
            number = next(numbers)
            path = f"/v1/calls/{call}/inputs"
            line.ask("POST", path, f"{number}\n", "application/x-ndjson").read()
            outputs = (event for event in map(json.loads, events) if event["type"] == "output")
            assert next(outputs)["value"] == number

        give()
        try:
            return at_rate(give, seconds, rate)
        finally:
            api.cancel(call)


class Watch:
    """Looks at a gateway while something is done to it: `/healthz` is answered within a second, the
    process stays the same one, and its memory grows by no more than `bytes_more`."""

    def __init__(self, service, bytes_more):
        self._service = service
        self._bytes_more = bytes_more
        self._stopped = threading.Event()
        self._taken = []
        self._failed = None
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._before = self._service.gateway.memory()
        self._most = self._before
        self._thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stopped.set()
        self._thread.join()
        if kind is None:
            self._ask()
            self._service.gateway.check()
            worst, more = max(self._taken), self._most - self._before
            print(f"  /healthz at worst {worst * 1000:.1f} ms, memory +{more / 2**20:.1f} MiB")
            assert self._failed is None, self._failed
            assert worst < 1, f"/healthz took {worst:.2f} s"
            assert more < self._bytes_more, f"memory grew by {more} bytes"

    def _look(self):
        while not self._stopped.wait(0.2):
            try:
                self._ask()
            except OSError as error:
                self._failed = error

    def _ask(self):
        began = time.monotonic()
        status, _, _ = self._service.api.request("GET", "/healthz", timeout=5)
        assert status == 200, status
        self._taken.append(time.monotonic() - began)
        self._most = max(self._most, self._service.gateway.memory())
