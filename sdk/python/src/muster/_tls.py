"""TLS to a gateway: verified by the pin in the token, or by the authorities this machine trusts.

A gateway makes its own certificate authority, and the token it hands out ends in that authority's pin: the SHA-256 of
its certificate. So nothing has to be installed. That certificate is in an extension of the gateway's own, which a
handshake shows: once per process it is taken from whoever answers at the gateway's address, before anything secret is
sent, and counts only if its hash is the pin; every connection is then verified against it alone, with the name or
address it was made to. A token without a pin is for a
gateway whose certificate a public authority signed.
"""

from __future__ import annotations

import hashlib
import socket
import ssl

from ._errors import TransportError

_SECONDS = 10.0
# How a certificate of 256 to 65,535 bytes begins: a sequence, and two bytes of length after this.
_LONG_SEQUENCE = b"\x30\x82"

# By pin; None: the authorities of this machine. Contexts may be shared by threads, and made twice without harm.
_contexts: dict[str | None, ssl.SSLContext] = {}


def wrap(sock: socket.socket, host: str, port: int, pin: str | None) -> ssl.SSLSocket:
    """The same connection, secret, its other end verified."""
    context = _contexts.get(pin)
    if context is None:
        context = ssl.create_default_context() if pin is None else _pinned(host, port, pin)
        context.set_alpn_protocols(["http/1.1"])
        _contexts[pin] = context
    return context.wrap_socket(sock, server_hostname=host)


def _pinned(host: str, port: int, pin: str) -> ssl.SSLContext:
    """Trusts the authority with this pin, and no other."""
    authority = _authority(_shown(host, port), pin.lower())
    if authority is None:
        raise TransportError(
            f"what answers at {host}:{port} is not the gateway this token is for: its certificate is not of the "
            f"authority with the token's pin, {pin[:16]}.... Check MUSTER_URL, and that the token is this gateway's"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    return context


def _authority(shown: bytes, pin: str) -> bytes | None:
    """The certificate with this hash that is in another one, both DER."""
    at = shown.find(_LONG_SEQUENCE)
    while at >= 0:
        end = at + 4 + int.from_bytes(shown[at + 2 : at + 4], "big")
        if hashlib.sha256(shown[at:end]).hexdigest() == pin:
            return shown[at:end]
        at = shown.find(_LONG_SEQUENCE, at + 1)
    return None


def _shown(host: str, port: int) -> bytes:
    """The certificate of whoever is there. Nothing secret is sent, and nothing is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), _SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secret,
    ):
        return secret.getpeercert(binary_form=True) or b""
