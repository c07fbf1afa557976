"""HTTP/1.1 to a gateway, over connections that are kept for the next request.

Requests are written in one piece where they are small. Bodies are read straight from the socket: an event stream is
read in large pieces, with a deadline per read, which `http.client`'s buffered file cannot do (one timeout ends its
use). What belongs to a large frame is received right into that frame.

Idle connections are kept per process and gateway in deques, whose operations are atomic: no lock that a fork could
leave locked, and a forked child never touches its parent's connections.

Requests are safe to send twice (idempotency keys, numbered inputs), so one that finds its kept connection closed by the
gateway is sent again on a new one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Union
from urllib.parse import urlsplit

from . import _head
from ._config import Endpoint, split_pin
from ._errors import TransportError, UsageValueError
from ._head import Head, NotHttp

Buffer = Union[bytes, bytearray, memoryview]

CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 30.0
_READ_BYTES = 256 * 1024
# Memory for more than this is mapped, and unmapped again, for every read.
_SMALL_READ_BYTES = 64 * 1024
_HEAD_BYTES = 16 * 1024
_KEPT_PER_GATEWAY = 8
# How long the next request waits for the last one's end before it takes a new connection.
_DRAIN_SECONDS = 0.01
_MAX_LINE = 16 * 1024
# Up to this size a request is one write, so that it arrives as one.
_JOIN_BYTES = 256 * 1024

# What a read says that would have to wait; TLS has a word of its own.
_NOTHING_YET = (socket.timeout, BlockingIOError, ssl.SSLWantReadError)

_idle: dict[tuple[int, str], deque[Connection]] = {}


class Connection:
    """One connection; used by one request at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        parts = urlsplit(endpoint.url)
        self.endpoint = endpoint
        self.body: Body | None = None
        self.used = False
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        # In a container the way to the gateway is a socket of the agent's.
        self._path = parts.path if parts.scheme == "http+unix" else ""
        self._prefix = "" if self._path else parts.path.rstrip("/")
        self._fixed = f"Host: {parts.netloc.rpartition('@')[2] or 'agent'}\r\n"
        self._pin: str | None = None
        if endpoint.token:
            token, self._pin = split_pin(endpoint.token)
            self._fixed += f"Authorization: Bearer {_clean(token)}\r\n"
        self._sock: socket.socket | None = None

    def open(self) -> socket.socket:
        """The socket, connected."""
        if self._sock is None:
            if self._path:
                self._sock = self._open_path()
                return self._sock
            sock = socket.create_connection((self._host, self._port), CONNECT_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Nobody else notices a peer that vanished while this side waits for room to write.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            if self._secure:
                from ._tls import wrap

                try:
                    sock = wrap(sock, self._host, self._port, self._pin)
                except BaseException:
                    sock.close()
                    raise
            self._sock = sock
        return self._sock

    def _open_path(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        return sock

    def exchange(
        self,
        method: str,
        path: str,
        body: Sequence[Buffer],
        headers: dict[str, str],
        seconds: float | None,
    ) -> Body:
        """Send a request and read the head of its answer."""
        sock = self.open()
        sock.settimeout(seconds)
        lines = [f"{method} {_clean(self._prefix + path)} HTTP/1.1\r\n{self._fixed}"]
        lines += [f"{name}: {_clean(value)}\r\n" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {sum(map(len, body))}\r\n")
        pieces: list[Buffer] = ["".join(lines).encode("latin-1") + b"\r\n", *body]
        try:
            if sum(map(len, pieces)) <= _JOIN_BYTES:
                pieces = [b"".join(pieces)]
            for piece in pieces:
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # The gateway may have refused the request before it read all of it: its answer says why.
            if not body:
                raise
        self.body = Body(self, sock, *_read_head(sock, method))
        return self.body

    def ready(self) -> bool:
        """Whether the next request can go out: the last answer is read, and the gateway has not hung up."""
        if self._sock is None:
            return False
        if self.body is not None:
            if not self.body.drain():
                return False
            self.body = None
        return not _readable(self._sock)

    def abort(self) -> None:
        """Hang up, from any thread: whoever reads or writes on this connection gets an error."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def release(self) -> None:
        """Keep the connection for the next request. An answer that is nearly read may still be on its way."""
        if self.body is not None and not self.body.reusable():
            self.close()
            return
        kept = _idle.setdefault((os.getpid(), self.endpoint.url), deque())
        if len(kept) >= _KEPT_PER_GATEWAY:
            self.close()
        else:
            self.used = True
            kept.append(self)


class Body:
    """The body of an answer, as it comes."""

    def __init__(self, connection: Connection, sock: socket.socket, head: Head, raw: bytes) -> None:
        self.connection = connection
        self.status = head.status
        self.call_id = head.headers.get("muster-call")
        self._head = head
        self._sock = sock
        self._chunked = head.chunked
        self._left: int | None = 0 if head.chunked else head.length
        self._first_chunk = True
        self._finished = not head.chunked and head.length == 0
        # What came with the head.
        self._raw = raw
        self._room = _SMALL_READ_BYTES

    def read(self, seconds: float | None, most: int = _READ_BYTES) -> Buffer | None:
        """Some bytes; `b""` at the end of the body; None if nothing came within `seconds`."""
        while True:
            data = self._parse()
            if data or self._finished:
                return data
            self._sock.settimeout(seconds)
            try:
                more = self._sock.recv(min(most, self._room))
            except _NOTHING_YET:
                return None
            if not more:
                if self._chunked or self._left is not None:
                    raise ConnectionResetError("the gateway hung up within an answer")
                self._finished = True
                return b""
            # As long as reads are filled, there is more to come than that.
            self._room = _READ_BYTES if len(more) == self._room else _SMALL_READ_BYTES
            self._raw = self._raw + more if self._raw else more

    def read_into(self, room: memoryview, seconds: float | None) -> int | None:
        """Some bytes straight into `room`: how many; None if nothing came within `seconds`.

        0 where what comes next has to be looked at first: `read` a little.
        """
        if self._raw or self._finished or not self._left:
            return 0
        self._sock.settimeout(seconds)
        try:
            count = self._sock.recv_into(room[: self._left])
        except _NOTHING_YET:
            return None
        if not count:
            raise ConnectionResetError("the gateway hung up within an answer")
        self._left -= count
        self._finished = not self._chunked and self._left == 0
        return count

    def read_all(self, seconds: float) -> bytes:
        """The rest of the body."""
        parts: list[Buffer] = []
        while True:
            data = self.read(seconds)
            if data is None:
                raise TimeoutError("the gateway stopped within an answer")
            if not data:
                return b"".join(parts)
            parts.append(data)

    def header(self, name: str) -> str | None:
        """A header of the answer."""
        return self._head.headers.get(name.lower())

    def reusable(self) -> bool:
        return self._head.keep_alive

    def drain(self) -> bool:
        """Whether the body ends within a moment: its end comes a little after the last event."""
        try:
            while not self._finished:
                if self.read(_DRAIN_SECONDS) is None:
                    return False
        except (OSError, TransportError):
            return False
        return True

    def _parse(self) -> Buffer:
        """Body bytes out of what was received."""
        raw = self._raw
        if not raw or self._finished:
            return b""
        if not self._chunked:
            self._raw = b""
            if self._left is not None:
                self._left -= len(raw)
                self._finished = self._left <= 0
            return raw
        view = memoryview(raw)
        parts: list[Buffer] = []
        at, end, left = 0, len(raw), self._left or 0
        while at < end:
            if left:
                step = min(left, end - at)
                parts.append(view[at : at + step])
                at += step
                left -= step
                continue
            # The line of a chunk's size, after the first chunk preceded by the end of the last one.
            start = at if self._first_chunk else at + 2
            stop = raw.find(b"\r\n", start)
            if stop < 0:
                if end - at > _MAX_LINE:
                    raise TransportError("the gateway's answer is not HTTP: endless chunk size")
                break
            try:
                left = int(raw[start:stop].split(b";", 1)[0], 16)
            except ValueError:
                raise TransportError("the gateway's answer is not HTTP: bad chunk size") from None
            if left == 0:
                # Trailers, of which none matters here, end with an empty line.
                if raw.find(b"\r\n\r\n", stop) < 0:
                    break
                self._finished = True
                at = end
                break
            self._first_chunk = False
            at = stop + 2
        self._left = left
        self._raw = raw[at:] if at < end else b""
        return parts[0] if len(parts) == 1 else b"".join(parts)


def send(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: Sequence[Buffer] = (),
    headers: dict[str, str] | None = None,
    seconds: float | None = REQUEST_SECONDS,
    connection: Connection | None = None,
) -> Body:
    """Send one request and read the head of its answer; each write and read may take `seconds`.

    The answer's `connection` is the caller's to `release` or `close`. `TransportError` if there is no gateway.
    """
    while True:
        chosen = connection or _kept(endpoint) or Connection(endpoint)
        reused = chosen.used
        try:
            return chosen.exchange(method, path, body, headers or {}, seconds)
        except OSError as error:
            chosen.close()
            if reused and connection is None and not isinstance(error, socket.timeout):
                continue
            raise TransportError(_unreachable(endpoint, method, path, error)) from error
        except BaseException:
            chosen.close()
            raise


def fetch(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: Sequence[Buffer] = (),
    headers: dict[str, str] | None = None,
    seconds: float = REQUEST_SECONDS,
) -> tuple[Body, bytes]:
    """Send one request and read the whole answer."""
    answer = send(endpoint, method, path, body, headers, seconds)
    try:
        content = answer.read_all(seconds)
    except OSError as error:
        answer.connection.close()
        raise TransportError(_unreachable(endpoint, method, path, error)) from error
    except BaseException:
        answer.connection.close()
        raise
    answer.connection.release()
    return answer, content


def _read_head(sock: socket.socket, method: str) -> tuple[Head, bytes]:
    """The head of the answer, and what came of its body with it."""
    raw = b""
    while True:
        end = raw.find(_head.END)
        if end >= 0:
            head, raw = _head.parse(raw[:end], method), raw[end + len(_head.END) :]
            if not head.is_interim:
                return head, raw
            continue
        if len(raw) > _head.MAX_HEAD:
            raise NotHttp("the answer is not HTTP: its head does not end")
        # Others may greet and then wait.
        if not raw.startswith(_head.BEGIN[: len(raw)]):
            raise NotHttp(f"the answer is not HTTP: {raw[:60]!r}")
        more = sock.recv(_HEAD_BYTES)
        if not more:
            raise ConnectionResetError("the gateway hung up before it answered")
        raw += more


def _clean(text: str) -> str:
    """`text`, if it can be part of a request's head."""
    if not text.isascii() or not text.isprintable():
        raise UsageValueError("a token or path must be printable ASCII")
    return text


def _kept(endpoint: Endpoint) -> Connection | None:
    kept = _idle.get((os.getpid(), endpoint.url))
    while kept:
        try:
            connection = kept.pop()
        except IndexError:
            return None
        if connection.endpoint.token == endpoint.token and connection.ready():
            return connection
        connection.close()
    return None


def _readable(sock: socket.socket) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


def _unreachable(endpoint: Endpoint, method: str, path: str, error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return (
            f"no gateway at {endpoint.url}: connection refused. Start one with `make demo`, "
            "or set MUSTER_URL to where yours listens"
        )
    if isinstance(error, socket.gaierror):
        return f"no gateway at {endpoint.url}: the name cannot be resolved. Check MUSTER_URL"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of the gateway at {endpoint.url} cannot be trusted: {error.verify_message}. "
            "Use the token whole, as it was shown: its last part says which certificate to expect"
        )
    if isinstance(error, socket.timeout):
        return f"the gateway at {endpoint.url} did not answer {method} {path} in time"
    reason = error or type(error).__name__
    return (
        f"the connection to the gateway at {endpoint.url} failed during {method} {path}: {reason}"
    )
