"""`remote_parallel_map` for coroutines: `await` it for the list, or `async for` over its generator.

    import muster.aio

    squares = await muster.aio.remote_parallel_map(square, range(10))
    async for value in muster.aio.remote_parallel_map(square, range(10), generator=True):
        ...

How it works is in `_async`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, Union, overload

from . import _async
from ._options import Env, Results
from ._requirements import Packages

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._call import Call
    from ._map import Arguments
    from ._plan import More

__all__ = ["remote_parallel_map"]

In = TypeVar("In")
Out = TypeVar("Out")


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Union[Iterable[In], AsyncIterable[In]],
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
) -> Coroutine[Any, Any, list[Out]]: ...


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Union[Iterable[In], AsyncIterable[In]],
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
) -> AsyncGenerator[Out, None]: ...


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Union[Iterable[In], AsyncIterable[In]],
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
) -> Coroutine[Any, Any, Call]: ...


@overload
def remote_parallel_map(
    function_: Callable[[In], Out],
    inputs: Union[Iterable[In], AsyncIterable[In]],
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
    inputs: Union[Iterable[Arguments], AsyncIterable[Arguments]],
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
) -> Coroutine[Any, Any, list[Out]]: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Union[Iterable[Arguments], AsyncIterable[Arguments]],
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
) -> AsyncGenerator[Out, None]: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Union[Iterable[Arguments], AsyncIterable[Arguments]],
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
) -> Coroutine[Any, Any, Call]: ...


@overload
def remote_parallel_map(
    function_: Callable[..., Out],
    inputs: Union[Iterable[Arguments], AsyncIterable[Arguments]],
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
    inputs: Union[Iterable[Any], AsyncIterable[Any]],
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
    """`muster.remote_parallel_map` for coroutines: the same arguments, and the event loop goes on meanwhile.

        >>> import asyncio, muster.aio
        >>> asyncio.run(muster.aio.remote_parallel_map(abs, [-1, -2]))  # doctest: +SKIP
        [1, 2]

    Function, inputs and options are checked, and inputs are iterated, in a thread with a copy of the caller's context.
    `inputs` may be an asynchronous iterable too, which is iterated in the event loop.

    Returns:
        A coroutine of the list in input order; with `background=True` a coroutine of a `Call`; with `generator=True` an
        asynchronous generator, whose call starts when it is first iterated. Cancelling the task that awaits cancels the
        call, and so does closing the generator: `aclose`, or leaving it to the event loop after a `break`.

    Raises:
        What `muster.remote_parallel_map` raises, when awaited or iterated.
    """
    asked = {
        "func_cpu": func_cpu,
        "func_ram": func_ram,
        "background": background,
        "spinner": spinner,
        "generator": generator,
        "max_parallelism": max_parallelism,
        "unpack": unpack,
        "ordered": ordered,
        "packages": packages,
        "image": image,
        "runtime": runtime,
        "env": env,
        "secrets": secrets,
        "shares": shares,
        "timeout": timeout,
        "retries": retries,
        "return_exceptions": return_exceptions,
        "name": name,
        "key": key,
        "results": results,
        "url": url,
        "token": token,
    }
    if generator:
        return _async.stream(function_, inputs, asked)
    return _async.whole(function_, inputs, asked)
