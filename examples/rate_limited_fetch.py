"""Fetch many pages, never more than four at a time over all hosts, and use each as soon as it is there.

`max_parallelism` is the limit, `generator=True` yields pages as they come. With `--url` they are fetched from there
(`URL/0`, `URL/1`, ...), which hosts must be able to reach: containers reach the internet, but neither their own host
nor private networks, so no server of this machine. Without it each container starts a small, slow server for itself
when it fetches its first page.
"""

from __future__ import annotations

import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from beside_serial import compare, options, timed
from muster import remote_parallel_map

AT_ONCE = 4
OWN_SERVER: list[str] = []  # of this process, once it runs


class Page(NamedTuple):
    number: int
    size: int
    began: float
    ended: float


class Slow(BaseHTTPRequestHandler):
    """Takes a moment for each page, as servers do."""

    def do_GET(self) -> None:
        time.sleep(0.05)
        body = f"page {self.path}\n".encode() * 100
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not a line for each request."""


def own_server() -> str:
    if not OWN_SERVER:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        OWN_SERVER.append(f"http://127.0.0.1:{server.server_port}")
    return OWN_SERVER[0]


def fetch(url: str | None, number: int) -> Page:
    """Runs in a container."""
    address = f"{url or own_server()}/{number}"
    began = time.time()
    with urllib.request.urlopen(address, timeout=30) as answer:
        size = len(answer.read())
    return Page(number, size, began, time.time())


def most_at_once(pages: list[Page]) -> int:
    """How many were being fetched at the same time at most, by the hosts' clocks."""
    return max(sum(one.began <= page.began < one.ended for one in pages) for page in pages)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--url", help="where the pages are, without the number")
    given = parser.parse_args()
    inputs = [(given.url, number) for number in range(12 if given.small else 200)]

    def remote() -> list[Page]:
        pages = []
        for page in remote_parallel_map(
            fetch, inputs, func_cpu=0.25, func_ram=0.25, max_parallelism=AT_ONCE, generator=True, unpack=True
        ):  # fmt: skip
            pages.append(page)
            if len(pages) % 50 == 1:
                print(f"page {page.number} came as number {len(pages)}: {page.size:,} bytes")
        return pages

    pages, seconds = timed(remote)
    alone, serial_seconds = timed(lambda: [fetch(*each) for each in inputs])

    size = sum(page.size for page in pages)
    print(f"{len(pages)} pages of {size:,} bytes, at most {most_at_once(pages)} at a time")
    assert {page[:2] for page in pages} == {page[:2] for page in alone}
    assert most_at_once(pages) <= AT_ONCE
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
