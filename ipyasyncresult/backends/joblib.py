"""joblib: ``Parallel`` (and so scikit-learn) on our engines, with progress and outputs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ipyasyncresult.backends.protocol import needs
from ipyasyncresult.client.connect import default_client
from ipyasyncresult.core.asyncresult import AsyncResult
from ipyasyncresult.core.capabilities import Capabilities

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient

__all__ = ["joblib_results", "register_joblib_backend"]

_KEPT = 10  # results of the last calls

_results: list[AsyncResult] = []


def joblib_results() -> list[AsyncResult]:
    """The results of the last calls of ``Parallel``, the newest last: outputs, timing, failures.

    A task is what joblib calls a batch: one call or several short ones.
    """
    return list(_results)


def register_joblib_backend(name: str = "ipyasyncresult", *, make_default: bool = False) -> None:
    """Let ``joblib.parallel_config(backend='ipyasyncresult')`` run on engines.

    They are those that :func:`ipyasyncresult.connect` gives; others are named with
    ``parallel_config(backend='ipyasyncresult', client=client)``.

    Parameters
    ----------
    name : str
    make_default : bool
        Use it wherever nothing else is asked for.

    Raises
    ------
    ImportError
        When joblib is not installed; names the extra.
    """
    try:
        import joblib
        from joblib._parallel_backends import ParallelBackendBase
    except ImportError as error:
        raise needs("joblib", error) from error

    class EnginesBackend(_Work, ParallelBackendBase):  # type: ignore[misc]
        """joblib's protocol; what it does stands in :class:`_Work`."""

    joblib.register_parallel_backend(name, EnginesBackend, make_default=make_default)


class _Work:
    """One user of joblib: its client, and the result that grows while joblib sends batches."""

    default_n_jobs = -1  # who asks for engines wants all of them
    supports_timeout = True
    supports_retrieve_callback = True
    uses_threads = False

    parallel: Any

    def __init__(self, *args: Any, client: AnyClient | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        theirs = getattr(client, "capabilities", None)
        if client is not None and not isinstance(theirs, Capabilities):
            raise TypeError(
                "client must be one that ipyasyncresult.connect(x) gives, "
                f"not {type(client).__name__} {client!r}"
            )
        self._client = client
        self._result: AsyncResult | None = None
        self._live: AbstractContextManager[None] | None = None

    @property
    def supports_sharedmem(self) -> bool:
        """For ``require='sharedmem'``; of engines that are not there yet: no."""
        return self._client is not None and self._client.capabilities.shared_memory

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches may run at once."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        engines = self._engines().engine_count()
        if n_jobs is not None and n_jobs < -1:
            return max(1, engines + 1 + n_jobs)
        # What is one job joblib does by itself, in this process: not because only one engine is up.
        return max(2, engines if n_jobs in (None, -1) else min(n_jobs, engines))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_options: Any) -> int:
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def _engines(self) -> AnyClient:
        if self._client is None:
            self._client = default_client()
        return self._client

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Run one batch; a future."""
        client = self._engines()
        result = client.load_balanced_view().apply_async(func)
        if self._result is None:
            self._begin(client, result)
        else:
            self._result.records.extend(result.records)
            client.ledger.count(self._result._tally, result.records)
        future = result.as_future()
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit  # its name before joblib 1.5

    def retrieve_result_callback(self, out: Any) -> Any:
        """What the batch gave, or its error."""
        return out.result()

    def _begin(self, client: AnyClient, first: AsyncResult) -> None:
        self._result = AsyncResult.over(client, list(first.records), "joblib")
        _results.append(self._result)
        del _results[:-_KEPT]
        self._live = self._result.show_live()
        self._live.__enter__()

    def stop_call(self) -> None:
        """joblib has all results, or gave up."""
        self._result = None
        live, self._live = self._live, None
        if live is not None:
            live.__exit__(None, None, None)

    def terminate(self) -> None:
        self.stop_call()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A batch failed: what has not started is not needed any more."""
        del ensure_ready
        if self._result is not None and self._result.capabilities.abort_queued:
            self._result.abort()
