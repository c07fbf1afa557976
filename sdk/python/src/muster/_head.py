"""The head of an HTTP/1.1 answer, as RFC 9112 has it. Pure.

`http.client` reads heads as the mails that they look like, which takes a tenth of the time of a small call.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_HEAD = 64 * 1024
"""The longest head, in bytes."""
BEGIN = b"HTTP/1."
END = b"\r\n\r\n"

# Answers that have no body, whatever their head says of one.
_BODILESS = (204, 304)


class NotHttp(ConnectionError):
    """What answers is no HTTP server, or a broken one."""


class Head(NamedTuple):
    """What an answer says before its body."""

    status: int
    headers: dict[str, str]
    """By name in lower case; what came several times is joined with a comma."""
    chunked: bool
    length: int | None
    """Bytes of the body; None where it is chunked, or ends with the connection."""
    keep_alive: bool
    """Whether the connection can be used again."""

    @property
    def is_interim(self) -> bool:
        """Whether another head follows."""
        return self.status < 200


def parse(text: bytes, method: str) -> Head:
    """The head that `text` is, without the empty line at its end; `NotHttp` if it is none."""
    first, *lines = text.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest.partition(" ")[0]
    if (
        version not in ("HTTP/1.1", "HTTP/1.0")
        or not (len(status) == 3 and _is_number(status))
        or status[0] == "0"
    ):
        raise NotHttp(f"the answer is not HTTP: {first[:60]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise NotHttp(f"the answer is not HTTP: {line[:60]!r}")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    code = int(status)
    chunked = _words(headers, "transfer-encoding")[-1:] == ["chunked"]
    length = None if chunked else _length(headers)
    if method == "HEAD" or code < 200 or code in _BODILESS:
        chunked, length = False, 0
    connection = _words(headers, "connection")
    keeps = "keep-alive" in connection if version == "HTTP/1.0" else "close" not in connection
    return Head(code, headers, chunked, length, keeps and (chunked or length is not None))


def _length(headers: dict[str, str]) -> int | None:
    said = set(_words(headers, "content-length"))
    if not said:
        return None
    length = said.pop()
    if said or not _is_number(length):
        raise NotHttp(f"the answer is not HTTP: its length is {headers['content-length'][:60]!r}")
    return int(length)


def _words(headers: dict[str, str], name: str) -> list[str]:
    value = headers.get(name)
    return [word.strip().lower() for word in value.split(",")] if value else []


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
