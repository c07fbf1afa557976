"""Waiting for a condition, with a name and a deadline. The only place where tests sleep."""

import time


class NotInTime(AssertionError):
    """The condition did not come true before the deadline."""


def until(what, condition, seconds=20.0, interval=0.02):
    """Asks until `condition()` is true, and returns what it gave. Fails with `what` and the last
    answer at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NotInTime(f"after {seconds:g} s still not: {what} (last seen: {answer!r})")
        time.sleep(interval)
