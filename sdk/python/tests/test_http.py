"""Bodies are read as HTTP/1.1 says, however they arrive; refusals are heard; nothing is written into a head."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import muster
from muster import _head, _http, _stream, _wire
from muster._config import Endpoint


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None]):
    """An endpoint whose every connection is handed to `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(10)
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", "token")
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    return request


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
    st.sampled_from([b"", b"Trailer: value\r\n"]),
    st.booleans(),
)
def test_a_chunked_body_is_whole_however_it_is_cut(chunks, cuts, trailer, extension):
    suffix = b";name=value" if extension else b""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nMuster-Call: c1\r\n\r\n"
    raw += b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), suffix, chunk) for chunk in chunks)
    raw += b"0\r\n" + trailer + b"\r\n"

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        at, turn = 0, 0
        while at < len(raw):
            connection.sendall(raw[at : at + cuts[turn % len(cuts)]])
            at += cuts[turn % len(cuts)]
            turn += 1

    with server(serve) as endpoint:
        answer, content = _http.fetch(endpoint, "GET", "/")
    assert content == b"".join(chunks)
    assert (answer.status, answer.call_id) == (200, "c1")


@pytest.mark.parametrize("chunk", [70_000, 1 << 20], ids=["short chunks", "long chunks"])
def test_large_outputs_are_received_where_they_are_read(chunk):
    frames = [(index, bytes([index]) * (1 << 20)) for index in range(1, 4)]
    raw = b"".join(_wire.outputs_frame(index, 1, [(0, item)]) for index, item in frames)

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(raw), chunk):
            part = raw[at : at + chunk]
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")

    with server(serve) as endpoint:
        body = _http.send(endpoint, "GET", "/")
        decoder, found = _wire.Decoder(), []
        while _stream._receive(body, decoder, 5.0):
            for _, _, content in decoder:
                first, _, outputs = _wire.decode_outputs(content)
                found.append((first, bytes(outputs[0][1])))
        body.connection.close()
    assert found == frames
    assert decoder.empty


@pytest.mark.parametrize(
    "raw", [b"zz\r\n", b"5\r\nabc", b"f" * 20_000], ids=["no size", "cut", "endless"]
)
def test_a_broken_chunked_body_is_a_transport_error(raw):
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)

    with server(serve) as endpoint, pytest.raises(muster.TransportError):
        _http.fetch(endpoint, "GET", "/")


def test_a_body_of_known_length_that_is_cut_is_a_transport_error():
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")

    with server(serve) as endpoint, pytest.raises(muster.TransportError, match="hung up"):
        _http.fetch(endpoint, "GET", "/")


def test_a_refusal_before_the_body_was_read_is_heard():
    def serve(connection: socket.socket) -> None:
        connection.recv(10)
        body = b'{"code": "too_large", "detail": "too much", "action": "Send less."}'
        connection.sendall(b"HTTP/1.1 413 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        # Reads on for a while, so that the answer is not lost with the connection.
        with contextlib.suppress(OSError):
            for _ in range(10):
                connection.recv(1 << 20)

    with (
        server(serve) as endpoint,
        pytest.raises(muster.ApiError, match="too much. Send less.") as caught,
    ):
        muster.remote_parallel_map(
            len, [bytes(30 << 20)], url=endpoint.url, token="t", spinner=False
        )
    assert caught.value.code == "too_large"


def test_something_else_at_the_address_is_named():
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with server(serve) as endpoint, pytest.raises(muster.TransportError, match="no Muster gateway"):
        muster.remote_parallel_map(abs, [1], url=endpoint.url, token="t", spinner=False)


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * _head.MAX_HEAD, b"* OK\r\n\r\n"],
    ids=["a greeting", "an endless head", "a whole line"],
)
def test_what_does_not_speak_http_is_a_transport_error_at_once(said):
    heard, hung_up = threading.Event(), threading.Event()

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(said)
        if not heard.wait(10):
            hung_up.set()

    with server(serve) as endpoint:
        try:
            with pytest.raises(muster.TransportError, match="not HTTP"):
                _http.fetch(endpoint, "GET", "/")
            assert not hung_up.is_set(), "whoever waits for more hears the connection end"
        finally:
            heard.set()


def test_a_gateway_that_hangs_up_instead_of_answering_is_a_transport_error():
    with (
        server(read_request) as endpoint,
        pytest.raises(muster.TransportError, match="hung up before it answered"),
    ):
        _http.fetch(endpoint, "GET", "/")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 2))
def test_a_head_is_read_however_it_comes_and_whatever_comes_before_it(cuts, interim):
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * interim
    answer += b"HTTP/1.1 201 Created\r\nMuster-Call: c1\r\nContent-Length: 5\r\n\r\nhello"

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        left = answer
        for cut in cuts:
            connection.sendall(left[:cut])
            left = left[cut:]
        connection.sendall(left)

    with server(serve) as endpoint:
        body, content = _http.fetch(endpoint, "GET", "/")
    assert (body.status, body.call_id, content) == (201, "c1", b"hello")


def test_a_token_cannot_write_into_the_head():
    with pytest.raises(ValueError, match="token"):
        muster.remote_parallel_map(abs, [1], url="http://127.0.0.1:1", token="a\r\nX: y")


def test_an_address_with_a_path_and_a_port_is_kept():
    requests = []

    def serve(connection: socket.socket) -> None:
        requests.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

    with server(serve) as endpoint:
        assert muster.calls(url=endpoint.url + "/behind/a/proxy/", token="secret") == []
    assert requests[0].startswith(b"GET /behind/a/proxy/v1/calls HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer secret\r\n" in requests[0]
    assert b"\r\nHost: 127.0.0.1:" in requests[0]
