"""A way to a gateway that breaks off in the middle of what a client sends."""

import contextlib
import socket
import struct
import threading
from urllib.parse import urlsplit

# Nothing more is delivered: the other side sees a reset.
AT_ONCE = struct.pack("ii", 1, 0)


class Cutting:
    """A proxy of a gateway, as a context manager. The n-th connection breaks once its client has sent `cuts[n]` bytes,
    those after these do not; `taken` is how many there were."""

    def __init__(self, url, *cuts):
        self._gateway = (urlsplit(url).hostname, urlsplit(url).port)
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.taken = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                gateway = socket.create_connection(self._gateway)
                cut = self._cuts[self.taken] if self.taken < len(self._cuts) else None
                self.taken += 1
                self._open += [client, gateway]
                for source, target, bytes_left in ((client, gateway, cut), (gateway, client, None)):
                    ways = (source, target, bytes_left)
                    threading.Thread(target=_pass_on, args=ways, daemon=True).start()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # Closing alone would not wake the one that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            _end(sock)


def _pass_on(source, target, bytes_left):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if bytes_left is not None:
                data, bytes_left = data[:bytes_left], bytes_left - len(data)
            target.sendall(data)
            if bytes_left is not None and bytes_left <= 0:
                break
    for sock in (source, target):
        _end(sock)


def _end(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
