"""Many connections from one process, and the latency of small requests beside them."""

import contextlib
import http.client
import resource
import selectors
import socket
import threading
import time
from urllib.parse import urlsplit

SOURCES = [f"127.0.0.{last}" for last in range(2, 12)]


def allow_many_files():
    """As many open files as this process may have; what it starts inherits them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
        with selectors.DefaultSelector() as ready:
            for sock in self.sockets:
                sock.setblocking(False)
                ready.register(sock, selectors.EVENT_READ)
            while not self._stopped.wait(1):
                for key, _ in ready.select(0):
                    if not self._takes(key.fileobj, size):
                        ready.unregister(key.fileobj)
                        self.ended += 1

    @staticmethod
    def _takes(sock, size):
        try:
            return bool(sock.recv(size))
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
    """How long small requests took, in seconds."""

    def __init__(self, taken):
        self._taken = sorted(taken)

    def at(self, share):
        """The latency that so many of a hundred do not exceed."""
        return self._taken[min(len(self._taken) - 1, int(len(self._taken) * share / 100))]

    @property
    def worst(self):
        return self._taken[-1]

    def __str__(self):
        milliseconds = [f"{self.at(share) * 1000:.2f}" for share in (50, 99, 100)]
        return f"p50 {milliseconds[0]} ms, p99 {milliseconds[1]} ms, worst {milliseconds[2]} ms"


def latencies(api, path, seconds, rate=500):
    """Asks for `path` at a rate, on one connection, and says how long answers took from the moment
    each was due."""
    address = urlsplit(api.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    headers = {"Authorization": f"Bearer {api.token}"}
    taken = []
    began = time.monotonic()
    with contextlib.closing(connection):
        for number in range(int(seconds * rate)):
            due = began + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            taken.append(time.monotonic() - due)
    return Latencies(taken)


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
