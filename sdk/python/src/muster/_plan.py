"""A call from its arguments to what is returned: checked, pickled, and run in one of three ways.

What `remote_parallel_map` and its form for coroutines share. Making a `Plan` checks everything that can be checked
without the gateway; nothing is sent before one of `outputs`, `call` or `start` is called, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, TypedDict

from . import _payload
from ._config import is_agent, resolve
from ._display import Display
from ._errors import CallError, CallFailed, UsageTypeError
from ._options import Env, Results, options
from ._refs import noticed
from ._requirements import AUTO, Packages, exactly, requested

if TYPE_CHECKING:
    from ._call import Call
    from ._collect import Queued
    from ._session import Session


class More(TypedDict, total=False):
    """Keyword arguments that have no part in the type of what is returned, for overloads."""

    packages: Packages
    image: Optional[str]
    runtime: Optional[str]
    env: Env
    secrets: Optional[Iterable[str]]
    shares: Optional[Mapping[str, str]]
    timeout: Optional[float]
    retries: int
    return_exceptions: bool
    name: Optional[str]
    key: Optional[str]
    results: Results
    url: Optional[str]
    token: Optional[str]


class Plan:
    """One call that has not begun. See the module."""

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Iterable[Any],
        *,
        spinner: bool,
        unpack: bool,
        url: Optional[str],
        token: Optional[str],
        packages: Any,
        **asked: Any,
    ) -> None:
        self.opened: Callable[[Session], None] = lambda _session: None
        """Told of the session before it sends anything."""
        _payload.check_callable(function, unpack)
        self._options = options(function, **asked)
        if not hasattr(type(inputs), "__iter__") and not hasattr(type(inputs), "__getitem__"):
            more = ""
            if hasattr(type(inputs), "__aiter__"):
                more = "; asynchronous ones are for muster.aio.remote_parallel_map"
            raise UsageTypeError(f"inputs must be an iterable, not {type(inputs).__name__}{more}")
        from ._upload import Inputs

        self._used: set[str] = set()
        self._inputs = Inputs(inputs, unpack, self._used)
        self._function = function
        self._spinner = spinner
        self._nothing_to_do = self._inputs.known_empty and not asked["background"]
        if not self._nothing_to_do:
            self._endpoint = resolve(url, token)
            auto = packages == AUTO
            # A child that says nothing has what its parent has, so it can import what is imported here.
            is_child = is_agent(self._endpoint)
            with noticed(self._used):
                dumped = _payload.dump_with_packages(
                    function, unpack, self._inputs.modules if auto and not is_child else None
                )
            self._pickled = dumped.body
            wanted = exactly(dumped.pins) if auto else requested(packages)
            if wanted is not None:
                self._options.spec["packages"] = wanted
            elif is_child and not auto:
                self._options.spec["packages"] = {"requirements": []}

    def outputs(self) -> list[Any]:
        """See the call to its end; the outputs in input order."""
        from ._collect import Listed

        if self._nothing_to_do:
            return []
        listed = Listed(return_exceptions=self._options.return_exceptions)
        session = self._session(listed)
        if not self._guarded(session, session.run):
            return []
        failure, verdict = listed.failure, session.verdict
        if failure is None:
            failure = verdict
        if failure is None and session.stopped_early:
            failure = CallFailed(
                "an input failed, but which one was not told", call_id=session.call_id
            )
        if failure is None:
            return listed.values(session.queue.count)
        if isinstance(failure, CallError):
            failure.outputs = listed.returned()
        try:
            raise failure
        finally:
            # It holds this frame, which would hold it, and all outputs, until garbage is collected.
            del failure, verdict, listed, session

    def start(self) -> tuple[Session, Queued] | None:
        """Create the call and go on in other threads: the session, and its outputs. None if there are no inputs."""
        from ._collect import Queued
        from ._ordered import Ordered

        if self._nothing_to_do:
            return None
        queued = Ordered(self._options.return_exceptions) if self._options.ordered else Queued()
        session = self._session(queued)
        queued.follow(session)
        return (session, queued) if self._guarded(session, session.start) else None

    def call(self) -> Call:
        """Create the call and upload everything."""
        from ._call import Call
        from ._collect import Queued

        session = self._session(Queued(), Display(None))
        call_id = self._guarded(session, session.upload)
        made = Call(call_id, url=self._endpoint.url, token=self._endpoint.token)
        made._results = self._options.results
        return made

    def _session(self, collector: Any, display: Display | None = None) -> Session:
        from ._session import Session

        session = Session(
            self._endpoint,
            self._options,
            self._pickled,
            display or _display(self._function, self._spinner, self._options.spec),
            collector,
            self._used,
        )
        self.opened(session)
        return session

    def _guarded(self, session: Session, step: Callable[[Any], Any]) -> Any:
        """Run one step of a session; whatever interrupts it cancels the call, and comes out as it is."""
        try:
            return step(self._inputs)
        except BaseException as error:
            session.fail(error)
            raise


def _display(function: Any, spinner: bool, spec: dict[str, Any]) -> Display:
    if not spinner:
        return Display(None)
    from ._spinner import spinner_for

    return Display(spinner_for(function, spec["cpu"], spec["ram"]))
