"""`remote_parallel_map`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, Union, overload

from ._options import Env, Results
from ._plan import Plan
from ._requirements import Packages

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._call import Call
    from ._plan import More

In = TypeVar("In")
Out = TypeVar("Out")
Arguments = Union[tuple[Any, ...], list[Any], Mapping[str, Any]]
"""An input with `unpack=True`."""


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
    unpack: Literal[False] = False,
    ordered: Literal[False] = False,
    **more: Unpack[More],
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
    unpack: Literal[False] = False,
    ordered: bool = False,
    **more: Unpack[More],
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
    unpack: Literal[False] = False,
    ordered: Literal[False] = False,
    **more: Unpack[More],
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
    unpack: Literal[False] = False,
    ordered: bool = False,
    **more: Unpack[More],
) -> Any: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Iterable[Arguments],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: Literal[False] = False,
    spinner: bool = True,
    generator: Literal[False] = False,
    max_parallelism: Optional[int] = None,
    *,
    unpack: Literal[True],
    ordered: Literal[False] = False,
    **more: Unpack[More],
) -> list[Out]: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Iterable[Arguments],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: Literal[False] = False,
    spinner: bool = True,
    *,
    generator: Literal[True],
    max_parallelism: Optional[int] = None,
    unpack: Literal[True],
    ordered: bool = False,
    **more: Unpack[More],
) -> Generator[Out, None, None]: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Iterable[Arguments],
    func_cpu: float = 1,
    func_ram: float = 4,
    *,
    background: Literal[True],
    spinner: bool = True,
    generator: Literal[False] = False,
    max_parallelism: Optional[int] = None,
    unpack: Literal[True],
    ordered: Literal[False] = False,
    **more: Unpack[More],
) -> Call: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Iterable[Arguments],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: bool = False,
    spinner: bool = True,
    generator: bool = False,
    max_parallelism: Optional[int] = None,
    *,
    unpack: Literal[True],
    ordered: bool = False,
    **more: Unpack[More],
) -> Any: ...


def remote_parallel_map(
    function_: Callable[..., Any],
    inputs: Iterable[Any],
    func_cpu: float = 1,
    func_ram: float = 4,
    background: bool = False,
    spinner: bool = True,
    generator: bool = False,
    max_parallelism: Optional[int] = None,
    *,
    unpack: bool = False,
    ordered: bool = False,
    packages: Packages = "auto",
    image: Optional[str] = None,
    runtime: Optional[str] = None,
    env: Env = None,
    secrets: Optional[Iterable[str]] = None,
    shares: Optional[Mapping[str, str]] = None,
    timeout: Optional[float] = None,
    retries: int = 0,
    return_exceptions: bool = False,
    name: Optional[str] = None,
    key: Optional[str] = None,
    results: Results = "any",
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
        unpack: spread each input over the function's parameters: a tuple or list is its positional arguments, a mapping
            its keyword arguments. Anything else is a `TypeError` that names the input.
        ordered: the generator yields outputs in input order, and raises what an input raised in its turn. Outputs that
            come before their turn are held, and inputs wait once they are a window ahead of the oldest one whose
            output is missing: as many as make 32 MiB of outputs, at least 4,000 and at most 100,000.
        max_parallelism: how many inputs run at the same time at most, over all hosts.
        packages: what the function needs beside the image: "auto" finds the installed packages that it imports, at the
            versions they have here; a list of requirements; the path of a requirements file or `pylock.toml`; "all"
            that is installed here; or None. Hosts install them once, and tell what they do meanwhile.
        image: the containers' image; by default one with this Python version.
        runtime: how containers are started, for example "runsc" (gVisor), on hosts that allow it; by default as each
            host does by itself.
        env: environment variables for the function: a mapping, or names to forward from here.
        secrets: names of your secrets (`muster.secrets.set`) that the function has as environment variables.
        shares: folders that the hosts' operators share, by name, and where the function sees each: `{"data": "/data"}`.
            The function runs on hosts that have them all, in new containers; `muster hosts` lists them.
        timeout: seconds that one input may run.
        retries: how often an input that raised, died or timed out is tried again.
        return_exceptions: put exceptions in the outputs' places instead of stopping at the first.
        name: what the call is called in lists; the function's name by default.
        key: with `background=True`, a name of yours for this one call: asked for again with the same key, function
            and inputs, from any process, it is the same call, and an upload that was broken off goes on.
        results: "safe" where what runs in the containers is not trusted: outputs are plain data, arrays, tables and
            instances of classes that this program sent along; any other is an `Opaque`. The default unpickles
            outputs like any pickle, which runs what the container put there.
        url, token: the gateway; by default `MUSTER_URL` and `MUSTER_TOKEN`, then the configuration file, then this
            machine's own service.

    Returns:
        The outputs as a list in input order; or a generator; or a `Call`.

    Raises:
        What the function raised, with `index`, `call_id` and `host` set on it; `InputError` where an input failed
        otherwise (`WorkerDied`, `OutOfMemory`, `InputTimeout`, ...), with the other inputs' outputs by index in
        `.outputs`; `TypeError` or `ValueError` for a wrong argument; `PicklingError`; `TransportError`; `ApiError`.
    """
    plan = Plan(
        function_,
        inputs,
        func_cpu=func_cpu,
        func_ram=func_ram,
        background=background,
        spinner=spinner,
        generator=generator,
        max_parallelism=max_parallelism,
        unpack=unpack,
        ordered=ordered,
        packages=packages,
        image=image,
        runtime=runtime,
        env=env,
        secrets=secrets,
        shares=shares,
        timeout=timeout,
        retries=retries,
        return_exceptions=return_exceptions,
        name=name,
        key=key,
        results=results,
        url=url,
        token=token,
    )
    if background:
        return plan.call()
    if not generator:
        return plan.outputs()
    from ._generate import generate, nothing

    started = plan.start()
    return nothing() if started is None else generate(*started)
