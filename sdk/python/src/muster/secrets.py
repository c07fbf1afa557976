"""Secrets: what functions need and nobody else may see.

    >>> import muster
    >>> muster.secrets.set("DATABASE_PASSWORD", "correct horse")  # doctest: +SKIP
    >>> muster.secrets.names()  # doctest: +SKIP
    ['DATABASE_PASSWORD']
    >>> muster.remote_parallel_map(load, tables, secrets=["DATABASE_PASSWORD"])  # doctest: +SKIP

A secret belongs to the owner of the token, and functions find it in `os.environ`. The gateway keeps it encrypted and
gives its value to hosts that run such a call, and to nobody else: it cannot be read back.
"""

from __future__ import annotations

from typing import Any

from . import _api
from ._config import resolve
from ._errors import UsageTypeError, UsageValueError
from ._options import secret_name

__all__ = ["delete", "names", "set"]

_MAX_VALUE = 32 << 10


def set(  # noqa: A001 (read as `muster.secrets.set`)
    name: str, value: str, *, url: str | None = None, token: str | None = None
) -> None:
    """Set a secret, or replace it. Calls get the new value on every host that begins to work on them from now on.

    Raises:
        `TypeError` or `ValueError` for what cannot be a name or a value (never with the value in its text);
        `SecretError` where there are too many; `TransportError`; `ApiError`.
    """
    _api.set_secret(resolve(url, token), secret_name(name), _checked(value))


def names(*, url: str | None = None, token: str | None = None) -> list[str]:
    """The names of the owner's secrets."""
    return [str(secret["name"]) for secret in _api.listing(resolve(url, token), "secrets")]


def delete(name: str, *, url: str | None = None, token: str | None = None) -> None:
    """Remove a secret. A call that still needs it fails when it is next given to a host.

    Raises:
        `SecretError` where there is none; `TransportError`; `ApiError`.
    """
    _api.delete_secret(resolve(url, token), secret_name(name))


def _checked(value: Any) -> str:
    if not isinstance(value, str):
        raise UsageTypeError(f"the value of a secret must be a str, not {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= _MAX_VALUE or "\0" in value:
        raise UsageValueError(
            f"the value of a secret must have 1 to {_MAX_VALUE} bytes of UTF-8 without NUL"
        )
    return value
