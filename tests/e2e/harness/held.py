"""Inputs that run at the same time, for tests of what holds while they do."""

import ast
import io
import sys
import time
from contextlib import contextmanager

from .small import small_map
from .wait import until


@contextmanager
def held(function, inputs, **options):
    """Runs `function` for all `inputs` at once, and gives what it returned for each (plain data).

    The inputs do not end, so they are there together, each in a worker of its own, until the
    context ends and cancels the call.
    """

    def run(x):
        print(repr(function(x)))
        time.sleep(600)

    printed, before = io.StringIO(), sys.stdout
    sys.stdout = printed
    try:
        outputs = small_map(run, inputs, generator=True, **options)
        count = len(inputs)
        until(f"{count} inputs run", lambda: printed.getvalue().count("\n") == count, 30)
    finally:
        sys.stdout = before
    try:
        yield [ast.literal_eval(line) for line in printed.getvalue().splitlines()]
    finally:
        outputs.close()
