"""What is special to one backend or another; what all do is in ``tests/contract``."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import ipyasyncresult as ipar
from ipyasyncresult import _make_presenter
from ipyasyncresult.backends import capabilities
from ipyasyncresult.backends.joblib import joblib_results
from ipyasyncresult.backends.protocol import known_backends
from ipyasyncresult.core.presenter import PlainPresenter, install_presenter
from ipyasyncresult.errors import CapabilityError, EngineError

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module", autouse=True)
def _test_code_travels_by_value() -> Iterator[None]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def threads() -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield pool


# ------------------------------------------------------------------------------------ the table


def test_the_table_in_the_docs_is_that_of_the_code() -> None:
    assert capabilities().markdown() in (DOCS / "backends.md").read_text()


def test_a_backend_of_others_is_found_by_its_entry_point(tmp_path: Path) -> None:
    about = tmp_path / "other-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[ipyasyncresult.backends]\nother = other_backend\n")
    (tmp_path / "other_backend.py").write_text(
        textwrap.dedent("""
            def recognizes(target):
                return target == "other:"
            def connect(target, **options):
                return (target, options)
        """)
    )
    code = "import ipyasyncresult; print(ipyasyncresult.connect('other:', n=3))"
    path = f"{tmp_path}:{DOCS.parent}"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "('other:', {'n': 3})\n"


def test_what_cannot_be_connected_to_is_named() -> None:
    with pytest.raises(TypeError, match=r"ipyparallel, dask, threads, executor.*not int 3"):
        ipar.connect(3)
    for wrong in ("127.0.0.1:8786", "http://127.0.0.1:8786"):
        with pytest.raises(ValueError, match=r"such as 'tcp://host:8786', not '.*127"):
            ipar.connect(wrong)
    assert list(known_backends())[-4:] == ["ipyparallel", "dask", "threads", "executor"]


# ------------------------------------------------------------------------------------ executors


def test_an_option_that_a_backend_does_not_know_is_named(
    threads: concurrent.futures.Executor,
) -> None:
    with pytest.raises(TypeError, match=r"over a thread pool are \['n'\], not 'keep'"):
        ipar.connect(threads, keep=3)


def test_what_an_executor_cannot_do_is_refused(threads: concurrent.futures.Executor) -> None:
    with ipar.connect(threads) as client:
        view = client.load_balanced_view()
        result = view.apply_async(abs, -1)
        assert result.get(30) == 1
        for refused in (
            lambda: client[:],
            result.interrupt,
            lambda: client.get_result("nobody-1"),
            client.send_signal,
        ):
            with pytest.raises(CapabilityError, match="a thread pool"):
                refused()
        view.timeout = 1.0
        with pytest.raises(CapabilityError, match="time limits"):
            view.apply_async(abs, -1)


def test_outputs_of_threads_are_told_apart(threads: concurrent.futures.Executor) -> None:
    together = threading.Barrier(2)
    shared = {"barrier": together}
    sys.modules["backends_shared"] = type(sys)("backends_shared")
    vars(sys.modules["backends_shared"]).update(shared)

    def speak(x: int) -> None:
        import backends_shared  # type: ignore[import-not-found]

        for number in range(3):
            backends_shared.barrier.wait(30)
            print(x, number)

    with ipar.connect(threads) as client:
        result = client.load_balanced_view().map_async(speak, range(2), chunksize=1)
        result.get(30)
    del sys.modules["backends_shared"]
    assert result.stdout == [f"{x} 0\n{x} 1\n{x} 2\n" for x in range(2)]


def test_a_broken_pool_resolves_everything_with_the_cause() -> None:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    client = ipar.connect(pool)
    pool.shutdown()
    result = client.load_balanced_view().map_async(abs, range(3), chunksize=1)
    with pytest.raises(ipar.CompositeError, match=r"3 x EngineError.*cannot schedule new futures"):
        result.get(30)
    errors = result.failed
    assert len(errors) == 3
    assert all(isinstance(e, EngineError) and isinstance(e.__cause__, RuntimeError) for e in errors)
    client.close()


# ------------------------------------------------------------------------------ tracked futures


def test_tracked_futures_are_one_result(threads: concurrent.futures.Executor) -> None:
    with ipar.track([threads.submit(divmod, 7, x) for x in (2, 0, 3)]) as result:
        assert isinstance(result, ipar.AsyncMapResult)
    assert result.ok == [(3, 1), (2, 1)]
    (error,) = result.failed
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error, ipar.RemoteError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert (result.progress, len(result)) == (3, 3)


def test_tracked_futures_can_be_taken_back() -> None:
    futures: list[concurrent.futures.Future[int]] = [concurrent.futures.Future() for _ in range(2)]
    result = ipar.track(futures)
    futures[0].set_result(1)
    assert result.progress == 1
    assert list(result.abort().values()) == ["aborted"]
    assert futures[1].cancelled()
    with pytest.raises(ipar.TaskAborted):
        result.get(30)
    with pytest.raises(TypeError, match="number 0 is int"):
        ipar.track([1])


# --------------------------------------------------------------------------------------- joblib


class Noting(PlainPresenter):
    """Notes what is shown live."""

    def __init__(self) -> None:
        self.shown: list[ipar.AsyncResult] = []

    def show_live(self, result: ipar.AsyncResult) -> AbstractContextManager[None]:
        self.shown.append(result)
        return super().show_live(result)


@contextmanager
def over_a_pool() -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool,
        ipar.connect(pool) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.timeout(180)  # every worker imports scikit-learn
@pytest.mark.parametrize("engines", [lambda: ipar.Cluster(n=2), over_a_pool], ids=["own", "pool"])
def test_a_grid_search_runs_on_engines_is_shown_and_keeps_outputs(
    engines: Callable[[], AbstractContextManager[Any]],
) -> None:
    import joblib
    import numpy as np
    from sklearn.dummy import DummyClassifier
    from sklearn.model_selection import GridSearchCV

    class Speaking(DummyClassifier):  # type: ignore[misc]
        def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            print("fitting", self.strategy)
            return super().fit(x, y, sample_weight)

    ipar.register_joblib_backend()
    data, labels = np.arange(40).reshape(20, 2), np.arange(20) % 2
    search = GridSearchCV(Speaking(), {"strategy": ["prior", "uniform"]}, cv=3, refit=False)
    presenter = Noting()
    install_presenter(lambda: presenter)
    try:
        with (
            engines() as client,
            joblib.parallel_config(backend="ipyasyncresult", client=client),
        ):
            search.fit(data, labels)
    finally:
        install_presenter(_make_presenter)
    assert len(search.cv_results_["mean_test_score"]) == 2
    result = joblib_results()[-1]
    assert result.ready()
    assert presenter.shown == [result]
    said = "".join(result.stdout)
    assert said.count("fitting prior") == said.count("fitting uniform") == 3


def test_streams_are_given_back_when_the_last_client_is_closed(
    threads: concurrent.futures.Executor,
) -> None:
    """Tracked futures run nothing here: their end is nobody's end."""
    before = sys.stdout
    for _ in range(2):
        tracked = ipar.track([threads.submit(abs, -1)])
        assert tracked.get(30) == [1]
        client_of_it: Any = tracked._client
        client_of_it.close()
        with ipar.connect(threads) as client:
            assert client.load_balanced_view().apply_sync(abs, -2) == 2
            assert sys.stdout is not before
        assert sys.stdout is before
