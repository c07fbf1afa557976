"""What an `assert` that pytest has rewritten calls, for containers without pytest.

A function of a test module goes by value, with its asserts as pytest compiled them. They must hold and fail as plain
asserts do; only the long explanation of a failure is left out.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Sequence


def assertion_support() -> Any:
    """pytest's own module where it can be imported, else the little of it that asserts need."""
    try:
        from _pytest.assertion import rewrite
    except ImportError:
        return SimpleNamespace(
            _saferepr=_repr,
            _format_assertmsg=lambda message: (
                message if isinstance(message, str) else _repr(message)
            ),
            _format_explanation=lambda text: text.split("\n")[0],
            _format_boolop=lambda texts, is_or: (" or " if is_or else " and ").join(texts),
            _should_repr_global_name=lambda value: not callable(value),
            _call_reprcompare=_first_false,
            _check_if_assertion_pass_impl=lambda: False,
        )
    return rewrite


def _repr(value: Any) -> str:
    try:
        return repr(value).replace("\n", "\\n")[:240].replace("%", "%%")
    except Exception as error:
        return f"<repr() of {type(value).__qualname__} raised {type(error).__qualname__}>"


def _first_false(
    _operators: Sequence[str], results: Sequence[Any], texts: Sequence[str], _values: Sequence[Any]
) -> str:
    """The text of the comparison in a chain that failed."""
    return next((text for result, text in zip(results, texts) if not result), texts[-1])
