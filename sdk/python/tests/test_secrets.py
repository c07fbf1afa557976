"""`muster.secrets`: set, listed, deleted; and mistakes, which never repeat a value."""

from __future__ import annotations

import pytest

import muster

VALUE = "correct horse"


def test_secrets_are_set_listed_replaced_and_deleted(gateway):
    muster.secrets.set("PW", "first")
    muster.secrets.set("PW", "pässword\n" + VALUE)
    muster.secrets.set("_key1", VALUE, url=gateway.url)
    assert gateway.secrets == {"PW": "pässword\n" + VALUE, "_key1": VALUE}
    assert muster.secrets.names() == ["PW", "_key1"]
    muster.secrets.delete("PW")
    assert muster.secrets.names() == ["_key1"]
    with pytest.raises(muster.SecretError, match=r"no secret `PW`\. Set it") as caught:
        muster.secrets.delete("PW")
    assert caught.value.code == "unknown_secret"


@pytest.mark.parametrize(
    ("name", "value", "kind", "match"),
    [
        (1, VALUE, TypeError, "name of a secret must be a str, not int"),
        ("", VALUE, ValueError, "cannot be the name of a secret"),
        ("1A", VALUE, ValueError, "1A"),
        ("A-B", VALUE, ValueError, "A-B"),
        ("A/../B", VALUE, ValueError, "cannot be the name"),
        ("A\n", VALUE, ValueError, "cannot be the name"),
        ("A", VALUE.encode(), TypeError, "must be a str, not bytes"),
        ("A", "", ValueError, "1 to 32768 bytes"),
        ("A", VALUE + "\0", ValueError, "without NUL"),
        ("A", VALUE + "\ud800", ValueError, "UTF-8"),
        ("A", VALUE * 3000, ValueError, "1 to 32768 bytes"),
    ],
)
def test_a_wrong_name_or_value_is_refused_before_anything_is_sent(
    gateway, name, value, kind, match
):
    with pytest.raises(kind, match=match) as caught:
        muster.secrets.set(name, value)
    assert isinstance(caught.value, muster.UsageError)
    assert VALUE not in str(caught.value)
    assert caught.value.__context__ is None
    assert not gateway.requests
