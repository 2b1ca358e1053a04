"""Somebody's program, as a type checker sees it: it is checked, never run.

``mypy --strict`` reads it with the package installed from its wheel.  An ignored error that is none
is an error, so the lines at the end show what is refused.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, assert_type

import ipyasyncresult as ipar
from ipyasyncresult.errors import IpyAsyncResultError
from ipyasyncresult.testing import FakeClient, ManualClock


def measure(path: str) -> int:
    return len(path)


def results(files: list[str]) -> None:
    with ipar.Cluster(n=4) as client:
        assert_type(client, ipar.Client)
        assert_type(client.ids, list[int])
        view = client.load_balanced_view()
        assert_type(view, ipar.LoadBalancedView)
        result = view.map_async(measure, files)
        assert_type(result, ipar.AsyncMapResult)
        assert_type(view.apply_async(measure, "x"), ipar.AsyncResult)
        assert_type(result.progress, int)
        assert_type(result.elapsed, float)
        assert_type(result.wall_time, float | None)
        assert_type(result.successful(), bool)
        assert_type(result.wait(timeout=1), None)
        assert_type(
            result.wait(return_when="FIRST_EXCEPTION"),
            tuple[set[ipar.AsyncResult], set[ipar.AsyncResult]],
        )
        assert_type(result.failed, list[BaseException])
        assert_type(iter(result), Iterator[Any])
        assert_type(result.retry_failed(), ipar.AsyncMapResult)
        assert_type(client[:], ipar.DirectView)
        assert_type(client.get_result("a label"), ipar.AsyncResult)


async def in_asyncio(result: ipar.AsyncResult) -> list[int]:
    async for _item in result:
        pass
    values: list[int] = await result
    return values


def errors(result: ipar.AsyncResult) -> str:
    try:
        result.get(timeout=1.5)
    except ipar.RemoteError as error:
        return f"{error.ename} on {error.engine_id}"
    except (TimeoutError, IpyAsyncResultError) as error:
        return str(error)
    return ""


def as_an_executor(files: list[str]) -> list[int]:
    with ipar.EngineExecutor(max_workers=2) as executor:
        assert_type(executor.submit(measure, "a"), Future[int])
        totals = executor.map(measure, files)
        assert_type(totals, Iterator[int])
        return list(totals)


def in_tests() -> None:
    client = FakeClient(engines=2, clock=ManualClock())
    assert_type(client.submit("f"), ipar.AsyncResult)


def what_is_refused(client: ipar.Client, result: ipar.AsyncResult) -> None:
    ipar.no_such_name  # type: ignore[attr-defined]
    client.load_balanced_vew()  # type: ignore[attr-defined]
    result.get("soon")  # type: ignore[arg-type]
    result.wait(return_when="SOMETIME")  # type: ignore[call-overload]
    ipar.Cluster(n="four")  # type: ignore[arg-type]
    ipar.EngineExecutor().submit(measure, 3)  # type: ignore[arg-type]
