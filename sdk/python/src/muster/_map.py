"""`remote_parallel_map`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, overload

from . import _payload
from ._config import resolve
from ._display import Display
from ._errors import CallError, CallFailed, UsageTypeError
from ._options import Env, options

if TYPE_CHECKING:
    from ._call import Call

In = TypeVar("In")
Out = TypeVar("Out")


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Iterable[In],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: Literal[False] = False,
    spinner: bool = True,
    generator: Literal[False] = False,
    max_parallelism: Optional[int] = None,
    *,
    image: Optional[str] = None,
    env: Env = None,
    timeout: Optional[float] = None,
    retries: int = 0,
    return_exceptions: bool = False,
    name: Optional[str] = None,
    url: Optional[str] = None,
    token: Optional[str] = None,
) -> list[Out]: ...


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Iterable[In],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: Literal[False] = False,
    spinner: bool = True,
    *,
    generator: Literal[True],
    max_parallelism: Optional[int] = None,
    image: Optional[str] = None,
    env: Env = None,
    timeout: Optional[float] = None,
    retries: int = 0,
    return_exceptions: bool = False,
    name: Optional[str] = None,
    url: Optional[str] = None,
    token: Optional[str] = None,
) -> Generator[Out, None, None]: ...


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Iterable[In],
    func_cpu: float = 1,
    func_ram: float = 4,
    *,
    background: Literal[True],
    spinner: bool = True,
    generator: Literal[False] = False,
    max_parallelism: Optional[int] = None,
    image: Optional[str] = None,
    env: Env = None,
    timeout: Optional[float] = None,
    retries: int = 0,
    return_exceptions: bool = False,
    name: Optional[str] = None,
    url: Optional[str] = None,
    token: Optional[str] = None,
) -> Call: ...


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Iterable[In],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: bool = False,
    spinner: bool = True,
    generator: bool = False,
    max_parallelism: Optional[int] = None,
    *,
    image: Optional[str] = None,
    env: Env = None,
    timeout: Optional[float] = None,
    retries: int = 0,
    return_exceptions: bool = False,
    name: Optional[str] = None,
    url: Optional[str] = None,
    token: Optional[str] = None,
) -> Any: ...


def remote_parallel_map(
    function_: Callable[[Any], Any],
    inputs: Iterable[Any],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: bool = False,
    spinner: bool = True,
    generator: bool = False,
    max_parallelism: Optional[int] = None,
    *,
    image: Optional[str] = None,
    env: Env = None,
    timeout: Optional[float] = None,
    retries: int = 0,
    return_exceptions: bool = False,
    name: Optional[str] = None,
    url: Optional[str] = None,
    token: Optional[str] = None,
) -> Any:
    """Run `function_(x)` for each `x` of `inputs`, in containers, on all hosts of a fleet at the same time.

        >>> from muster import remote_parallel_map
        >>> remote_parallel_map(lambda x: x * x, [1, 2, 3])  # doctest: +SKIP
        [1, 4, 9]

    What the function prints appears here as it is printed; what it raises is raised here.

    Args:
        function_: any callable that takes one argument; local modules it needs travel with it.
        inputs: any iterable; it is read as it is sent, and never held whole. Each item is one argument, a tuple too.
        func_cpu: cores for each running input, for example 0.5 or 4.
        func_ram: memory for each running input, in GB (2^30 bytes).
        background: return a `Call` as soon as function and inputs are uploaded; it runs on without this process.
        spinner: show one live line on a terminal, or in a notebook.
        generator: return a generator at once, which yields outputs as they are produced, in that order.
            Closing or dropping it cancels the call. Inputs that are not a plain container (list, tuple, range, set,
            dict, ...) are then iterated in another thread.
        max_parallelism: how many inputs run at the same time at most, over all hosts.
        image: the containers' image; by default one with this Python version.
        env: environment variables for the function: a mapping, or names to forward from here.
        timeout: seconds that one input may run.
        retries: how often an input that raised, died or timed out is tried again.
        return_exceptions: put exceptions in the outputs' places instead of stopping at the first.
        name: what the call is called in lists; the function's name by default.
        url, token: the gateway; by default `MUSTER_URL` and `MUSTER_TOKEN`, then the configuration file, then this
            machine's own service.

    Returns:
        The outputs as a list in input order; or a generator; or a `Call`.

    Raises:
        What the function raised, with `index`, `call_id` and `host` set on it; `InputError` where an input failed
        otherwise (`WorkerDied`, `OutOfMemory`, `InputTimeout`, ...), with the other inputs' outputs by index in
        `.outputs`; `TypeError` or `ValueError` for a wrong argument; `PicklingError`; `TransportError`; `ApiError`.
    """
    _payload.check_callable(function_)
    checked = options(
        function_,
        func_cpu=func_cpu,
        func_ram=func_ram,
        max_parallelism=max_parallelism,
        background=background,
        generator=generator,
        image=image,
        env=env,
        timeout=timeout,
        retries=retries,
        return_exceptions=return_exceptions,
        name=name,
    )
    if not hasattr(type(inputs), "__iter__") and not hasattr(type(inputs), "__getitem__"):
        raise UsageTypeError(f"inputs must be an iterable, not {type(inputs).__name__}")
    from ._collect import Listed, Queued
    from ._session import Session
    from ._upload import Inputs

    reader = Inputs(inputs)
    if reader.known_empty and not background:
        if not generator:
            return []
        from ._generate import nothing

        return nothing()
    endpoint = resolve(url, token)
    function = _payload.dump_function(function_)
    if generator:
        queued = Queued()
        session = Session(endpoint, checked, function, _display(function_, spinner), queued)
        from ._generate import generate, nothing

        return generate(session, queued) if _guarded(session, session.start, reader) else nothing()
    if background:
        from ._call import Call

        session = Session(endpoint, checked, function, Display(None), Queued())
        call_id = _guarded(session, session.upload, reader)
        return Call(call_id, url=endpoint.url, token=endpoint.token)
    listed = Listed(return_exceptions=checked.return_exceptions)
    session = Session(endpoint, checked, function, _display(function_, spinner), listed)
    if not _guarded(session, session.run, reader):
        return []
    failure, verdict = listed.failure, session.verdict
    if failure is None:
        failure = verdict
    if failure is None and session.stopped_early:
        failure = CallFailed("an input failed, but which one was not told", call_id=session.call_id)
    if failure is None:
        return listed.values(session.queue.count)
    if isinstance(failure, CallError):
        failure.outputs = listed.returned()
    raise failure


def _guarded(session: Any, step: Callable[[Any], Any], inputs: Any) -> Any:
    """Run one step of a session; whatever interrupts it cancels the call, and comes out as it is."""
    try:
        return step(inputs)
    except BaseException as error:
        session.fail(error)
        raise


def _display(function: Any, spinner: bool) -> Display:
    if not spinner:
        return Display(None)
    from ._spinner import spinner_for

    return Display(spinner_for(function))
