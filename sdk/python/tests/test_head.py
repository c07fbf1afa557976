"""Heads of answers are read as `http.client` reads them, and what is no head is refused."""

from __future__ import annotations

import http.client
import io

import pytest

from muster import _head
from muster._head import Head, NotHttp

HEADS = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nMuster-Call: c1",
    "sized": b"HTTP/1.1 404 Not Found\r\ncontent-length: 12\r\nContent-Type:application/problem+json",
    "without a reason": b"HTTP/1.1 201 \r\nContent-Length:\t0",
    "without a reason or a space": b"HTTP/1.1 201\r\nContent-Length: 0",
    "until the end": b"HTTP/1.1 200 OK\r\nServer: proxy",
    "closing": b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 5",
    "old and kept": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5",
    "several codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 7",
    "no content": b"HTTP/1.1 204 No Content\r\nConnection: keep-alive",
    "nothing but a status": b"HTTP/1.1 200 OK",
    "other letters": b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 1",
}


class _Wire:
    """As much of a socket as `http.client` needs."""

    def __init__(self, head: bytes) -> None:
        self._file = io.BytesIO(head + b"\r\n\r\n")

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._file


def known(head: bytes, method: str) -> Head:
    answer = http.client.HTTPResponse(_Wire(head), method=method)  # type: ignore[arg-type]
    answer.begin()
    chunked = bool(answer.chunked) and method != "HEAD"
    headers = {name.lower(): value for name, value in answer.getheaders()}
    length = None if chunked else answer.length
    return Head(answer.status, headers, chunked, length, not answer.will_close)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_means_what_it_means_to_the_standard_library(name, method):
    found = _head.parse(HEADS[name], method)
    expected = known(HEADS[name], method)
    assert found._replace(keep_alive=False) == expected._replace(keep_alive=False)
    # Where no body can follow, a connection may be kept that the standard library would close.
    assert found.keep_alive >= expected.keep_alive


def test_what_comes_twice_is_joined_and_a_length_may_be_said_twice():
    head = _head.parse(
        b"HTTP/1.1 200 OK\r\nVary: a\r\nVary: b\r\nContent-Length: 4\r\nContent-Length: 4", "GET"
    )
    assert head.headers["vary"] == "a, b"
    assert head.length == 4


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2",
        b"HTTP/2 200",
        b"HTTP/1.1",
        b"HTTP/1.1 OK",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 Early",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\n: nameless",
        b"HTTP/1.1 200 OK\r\nname : value",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4, 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5",
        "HTTP/1.1 200 OK\r\nContent-Length: ²".encode("latin-1"),
    ],
)
def test_what_is_no_head_is_refused(text):
    with pytest.raises(NotHttp, match="not HTTP"):
        _head.parse(text, "GET")
