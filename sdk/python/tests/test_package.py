"""The package as such: light to import, its public names, its errors."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import pytest

import muster
from muster import _errors


def test_importing_it_imports_nothing_heavy():
    source = (
        "import sys; before = set(sys.modules); import muster; "
        "print(' '.join(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", "import sys; sys.path[:] = " + repr(sys.path) + "; " + source],
                          capture_output=True, check=True, timeout=30, text=True)  # fmt: skip
    new = set(done.stdout.split())
    assert "muster" in new
    assert not new & {
        "cloudpickle",
        "http.client",
        "ssl",
        "asyncio",
        "tqdm",
        "inspect",
        "multiprocessing",
        "email",
    }


def test_every_public_name_is_there_once_and_listed():
    assert len(set(muster.__all__)) == len(muster.__all__)
    for name in muster.__all__:
        assert getattr(muster, name) is not None
        assert name in dir(muster)
    with pytest.raises(AttributeError, match="no_such_name"):
        muster.no_such_name


@pytest.mark.parametrize("name", _errors.__all__)
def test_every_error_is_in_the_tree_and_survives_pickling(name):
    kind = getattr(_errors, name)
    assert issubclass(kind, muster.MusterError)
    assert name in (_errors.__doc__ or "")
    parameters = [p for p in inspect.signature(kind).parameters if p != "message"]
    error = kind("the message", **{name: number for number, name in enumerate(parameters)})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.args == ("the message",)
    assert vars(again) == vars(error)
