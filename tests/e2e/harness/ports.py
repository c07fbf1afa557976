"""Addresses where nobody listens."""

import socket


def closed_url():
    """A URL of a port of this machine that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"
