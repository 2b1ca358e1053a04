"""Calls through views: which engine runs what, and what comes back."""

from __future__ import annotations

import functools
import inspect
import itertools
import operator
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.errors import NoEnginesError, SerializationError

if TYPE_CHECKING:
    from tests.integration.conftest import NewGate


def square(x: int) -> int:
    return x * x


# ------------------------------------------------------------------------------------- targets


def test_one_engine_gives_a_value_and_several_give_a_list(client: ipar.Client) -> None:
    assert client[1].apply_sync(pow, 2, 3) == 8
    assert client[:].apply_sync(pow, 2, 3) == [8, 8, 8]
    assert client[[1]].apply_sync(pow, 2, 3) == [8]


@pytest.mark.parametrize(
    ("targets", "engines"),
    [
        (0, [0]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        (slice(None, None, 2), [0, 2]),
        ([2, 0], [2, 0]),
        ([-1, 0], [2, 0]),
        (range(2), [0, 1]),
        ("all", [0, 1, 2]),
    ],
)
def test_targets_say_which_engines_run_it(
    client: ipar.Client, targets: Any, engines: list[int]
) -> None:
    result = client.direct_view(targets).apply_async(os.getpid)
    pids, ids = result.get(), result.engine_id
    if type(targets) is int:
        pids, ids = [pids], [ids]
    assert ids == engines
    assert pids == [client.engines[i]["pid"] for i in engines]


@pytest.mark.parametrize(
    ("targets", "error", "named"),
    [
        (99, IndexError, "99"),
        (-4, IndexError, "-4"),
        ([0, 3], IndexError, "3"),
        ("x", TypeError, "'x'"),
        (1.0, TypeError, "1.0"),
        (True, TypeError, "True"),
        ([0, "1"], TypeError, "'1'"),
        ([0, 0], ValueError, "twice"),
        ([2, -1], ValueError, "twice"),
        ([], ValueError, "at least one"),
    ],
)
def test_wrong_targets_are_refused_by_name(
    client: ipar.Client, targets: Any, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        client[targets]
    with pytest.raises(error, match=named):
        client[0].execute("1", targets=targets)


def test_a_slice_without_engines_is_refused_at_the_call(client: ipar.Client) -> None:
    with pytest.raises(ValueError, match="at least one"):
        client[7:].apply_async(os.getpid)


def test_without_engines_direct_calls_are_refused_and_others_wait_for_one() -> None:
    with ipar.Cluster(n=0) as client:
        with pytest.raises(NoEnginesError, match="wait_for_engines"):
            client[:].apply_async(os.getpid)
        with pytest.warns(UserWarning, match="add_engines") as warned:
            waiting = client.load_balanced_view().apply_async(square, 4)
        assert warned[0].filename == __file__
        assert not waiting.ready()
        client.add_engines(1)
        assert waiting.get(timeout=30) == 16


# --------------------------------------------------------------------------------------- calls


def test_arguments_arrive_as_they_were_given(client: ipar.Client) -> None:
    def echo(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    for view in (client[0], client.load_balanced_view()):
        assert view.apply_sync(echo) == ((), {})
        assert view.apply_sync(echo, 1, [2], key={"a": (3,)}) == ((1, [2]), {"key": {"a": (3,)}})
        # No name of an argument is taken.
        assert view.apply_sync(echo, f=1, self=2, view=3) == ((), {"f": 1, "self": 2, "view": 3})


def test_block_decides_whether_apply_waits(client: ipar.Client) -> None:
    view = client[0]
    assert isinstance(view.apply(square, 2), ipar.AsyncResult)
    view.block = True
    assert view.apply(square, 2) == 4
    assert view.map(square, range(3)) == [0, 1, 4]
    assert isinstance(view.map(square, range(3), block=False), ipar.AsyncMapResult)
    assert view.apply_async(square, 3).get() == 9


def test_flags_are_set_for_a_while(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    with view.temp_flags(block=True, label="mine"):
        assert view.apply(square, 3) == 9
        with pytest.raises(ZeroDivisionError), view.temp_flags(block=False):
            raise ZeroDivisionError
        assert view.block
    assert (view.block, view.label) == (False, None)
    with pytest.raises(AttributeError, match="blokc"), view.temp_flags(blokc=True):
        pass


BAD_FLAGS = [
    ("retries", "x", "retries must be an integer >= 0, not str 'x'"),
    ("retries", -1, "retries must be an integer >= 0, not -1"),
    ("retries", 1.5, "not float 1.5"),
    ("retries", True, "not bool True"),
    ("retries", None, "not NoneType None"),
    ("retries", 2**63, "retries must be an integer >= 0"),
    ("label", 3, "label must be a string or None, not int 3"),
    ("label", "\udc80", "label must be text that UTF-8 can encode"),
    ("timeout", "1", "timeout must be seconds"),
]


@pytest.mark.parametrize(("flag", "value", "said"), BAD_FLAGS)
def test_a_bad_flag_is_refused_when_it_is_set(
    client: ipar.Client, flag: str, value: Any, said: str
) -> None:
    for view in (client.load_balanced_view(), client[0]):
        before = vars(view).copy()
        with pytest.raises((TypeError, ValueError), match=said):
            setattr(view, flag, value)
        with pytest.raises((TypeError, ValueError), match=said):
            view.set_flags(**{flag: value})
        with (
            pytest.raises((TypeError, ValueError), match=said),
            view.temp_flags(block=True, **{flag: value}),
        ):
            pass
        assert vars(view) == before
        assert view.apply_sync(square, 3) == 9
    for limit in (-1, "x", 1.5):
        with pytest.raises((TypeError, ValueError), match="waiting_limit must be None"):
            client.load_balanced_view(waiting_limit=limit)
    with pytest.raises(TypeError, match="label must be a string"):
        client.load_balanced_view().map_async(square, [1], label=3)
    number: Any = 3
    with pytest.raises(TypeError, match="label must be a string"):
        client[:].execute("1", label=number)


def test_numbers_of_numpy_are_numbers(client: ipar.Client) -> None:
    one: Any = np.int64(1)
    view = client.load_balanced_view(retries=one, timeout=np.float32(30))
    assert type(view.retries) is int
    result = view.map_async(square, range(5), chunksize=2 * one, timeout=30 * one)
    assert result.get(timeout=np.float64(30)) == [0, 1, 4, 9, 16]
    assert result[one] == 1
    assert client[one].apply_sync(square, 3) == 9
    both: Any = np.arange(2)
    assert client[both].apply_sync(square, 3) == [9, 9]
    assert client.get_result(-one).get() == [9, 9]
    assert list(view.imap(square, [1, 2], max_outstanding=2 * one)) == [1, 4]


def test_a_label_is_on_every_task_of_the_view(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    view.label = "squares"
    assert view.apply_async(square, 1).label == "squares"
    assert set(view.map_async(square, range(4)).label) == {"squares"}
    assert client[:].apply_async(square, 1).label == [None] * 3


class Adder:
    """Callable, with state, of a module that engines cannot import."""

    def __init__(self, base: int) -> None:
        self.base = base

    def __call__(self, x: int) -> int:
        return self.base + x

    def times(self, x: int) -> int:
        return self.base * x

    @classmethod
    def make(cls, base: int) -> Adder:
        return cls(base)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder) and other.base == self.base

    __hash__ = None  # type: ignore[assignment]


def make_counter() -> Callable[[], int]:
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return count

    return step


@pytest.mark.parametrize(
    ("function", "arguments", "value"),
    [
        (lambda x: x + 1, (1,), 2),
        (make_counter(), (), 1),
        (functools.partial(pow, 2), (5,), 32),
        (Adder(10), (1,), 11),
        (Adder(10).times, (2,), 20),
        (Adder.make, (3,), Adder(3)),
        (Adder, (4,), Adder(4)),
        (operator.itemgetter(1), ("abc",), "b"),
        ("abc".upper, (), "ABC"),
        (len, ([1, 2],), 2),
        (np.add, (1, 2), 3),
    ],
    ids=str,
)
def test_every_kind_of_callable_travels(
    client: ipar.Client, function: Callable[..., Any], arguments: tuple[Any, ...], value: Any
) -> None:
    assert client.load_balanced_view().apply_sync(function, *arguments) == value


def test_functions_and_classes_of_main_travel_with_what_they_use(
    run_python: Callable[..., str],
) -> None:
    printed = run_python(
        """
        import math
        import ipyasyncresult as ipar

        factor = 2

        class Point:
            def __init__(self, x):
                self.x = x
            def scaled(self):
                return Point(scale(self.x))

        def scale(x):
            return factor * math.floor(x)

        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

        with ipar.Cluster(n=1) as client:
            view = client[0]
            point = view.apply_sync(Point(1.5).scaled)
            print(type(point) is Point, point.x)
            factor = 5  # the next call sees it
            print(view.apply_sync(scale, 1.5), view.apply_sync(fibonacci, 10))
            (point,) = view.map_sync(Point.scaled, [Point(3)])
            print(isinstance(point, Point), point.x)
            factor = 7  # the class that came back is the one that is here
            print(point.scaled().x, Point.scaled.__globals__ is globals())
            class Point:  # as when its cell runs again
                new = True
            print(view.apply_sync(lambda: Point().new))
        """
    )
    assert printed.splitlines() == ["True 2", "5 55", "True 15", "105 True", "True"]


async def double_soon(x: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return 2 * x


def test_coroutine_functions_are_awaited_on_the_engine(client: ipar.Client) -> None:
    assert client[:].apply_sync(double_soon, 2) == [4, 4, 4]
    assert client.load_balanced_view().map_sync(double_soon, range(5)) == [0, 2, 4, 6, 8]
    assert client[0].map_sync(functools.partial(double_soon), [1]) == [2]


def test_what_is_not_callable_is_refused(client: ipar.Client) -> None:
    for view in (client[0], client.load_balanced_view()):
        with pytest.raises(TypeError, match="callable"):
            view.apply_async(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable"):
            view.map_async("abs", [1])  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- variables


def test_variables_are_pushed_and_pulled(client: ipar.Client) -> None:
    view = client[:]
    view.push({"a": 1, "b": [2]}, block=True)
    view["c"] = 3
    assert view["a"] == [1, 1, 1]
    assert client[0]["c"] == 3
    assert client[1].pull(["a", "b"], block=True) == [1, [2]]
    assert view.pull("a + c").get() == [4, 4, 4]
    client[2]["a"] = "other"
    assert view.get("a") == [1, 1, "other"]


def test_functions_see_pushed_variables_and_set_globals(client: ipar.Client) -> None:
    view = client[0]
    view["base"] = 40
    assert view.apply_sync(lambda x: base + x, 2) == 42  # type: ignore[name-defined]  # noqa: F821

    def remember(x: int) -> None:
        global kept
        kept = x

    view.apply_sync(remember, 7)
    assert view["kept"] == 7


kept = 0


def test_a_missing_variable_is_named(client: ipar.Client) -> None:
    with pytest.raises(NameError, match="nowhere"):
        client[0].get("nowhere")
    with pytest.raises(ipar.CompositeError, match="3 x NameError"):
        client[:].get("nowhere")


def test_cleared_namespaces_keep_what_a_fresh_shell_has(client: ipar.Client) -> None:
    view = client[:]
    view["a"] = 1
    client.clear(targets=[0, 1])
    with pytest.raises(NameError):
        client[0].get("a")
    assert client[2]["a"] == 1
    assert client[0].pull("get_ipython() is not None", block=True)


@pytest.mark.parametrize(
    ("variables", "error", "named"),
    [
        ([("a", 1)], TypeError, "list"),
        ({"a b": 1}, ValueError, "'a b'"),
        ({"a": {"inner": threading.Lock()}}, SerializationError, "inner"),
    ],
    ids=["no dict", "no name", "no pickle"],
)
def test_what_cannot_be_pushed_is_named(
    client: ipar.Client, variables: Any, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        client[0].push(variables)


def test_a_reference_stands_for_a_value_of_the_engine(client: ipar.Client) -> None:
    view = client[:]
    view.scatter("mine", [10, 20, 30], block=True)
    assert view.apply_sync(sum, ipar.Reference("mine")) == [10, 20, 30]
    assert view.apply_sync(lambda d: d["k"][0] + 1, {"k": ipar.Reference("mine")}) == [11, 21, 31]
    client[0]["shout"] = str.upper
    assert client[0].apply_sync(ipar.Reference("shout"), "x") == "X"  # type: ignore[arg-type]
    with pytest.raises(NameError, match="theirs"):
        client[0].apply_sync(sum, ipar.Reference("theirs"))
    with pytest.raises(TypeError, match="name"):
        ipar.Reference(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("dist", ["b", "r"])
@pytest.mark.parametrize("sequence", [list(range(10)), [1], [], "abcdefg", np.arange(10)], ids=str)
def test_what_is_scattered_is_gathered_again(client: ipar.Client, dist: str, sequence: Any) -> None:
    view = client[:]
    view.scatter("part", sequence, dist=dist, block=True)
    gathered = view.gather("part", dist=dist, block=True)
    assert type(gathered) is (np.ndarray if isinstance(sequence, np.ndarray) else list)
    assert list(gathered) == list(sequence)


def test_scattered_parts_are_dealt_as_asked(client: ipar.Client) -> None:
    view = client[:]
    view.scatter("x", range(7), block=True)
    assert [list(part) for part in view["x"]] == [[0, 1, 2], [3, 4], [5, 6]]
    view.scatter("x", list(range(7)), dist="r", block=True)
    assert view["x"] == [[0, 3, 6], [1, 4], [2, 5]]
    view.scatter("x", [7, 8, 9], flatten=True, block=True)
    assert view["x"] == [7, 8, 9]
    assert view.scatter("x", [1], block=True) is view.push({"y": 0}, block=True) is None
    with pytest.raises(ValueError, match=r"dist.*'q'"):
        view.scatter("x", [1], dist="q")
    with pytest.raises(ValueError, match=r"dist.*'q'"):
        view.gather("x", dist="q")


# --------------------------------------------------------------------------------------- cells


def test_a_cell_runs_as_in_a_notebook(client: ipar.Client) -> None:
    view = client[0]
    view.execute("import asyncio\nx = await asyncio.sleep(0, 20)", block=True)
    result = view.execute("%precision 2\nprint('hi')\nx + 1.0")
    result.get()
    assert result.stdout == "hi\n"
    assert result.execute_result["data"]["text/plain"] == "21.00"
    shown = view.execute("6 * 7", silent=True)
    shown.get()
    assert shown.execute_result is None
    with pytest.raises(TypeError, match="code"):
        view.execute(42)  # type: ignore[arg-type]


def test_a_cell_that_fails_says_where(client: ipar.Client) -> None:
    result = client[:].execute("good = 1\n1/0")
    with pytest.raises(ipar.CompositeError, match="3 x ZeroDivisionError"):
        result.get()
    with pytest.raises(ZeroDivisionError) as caught:
        client[0].execute("1/0", block=True)
    assert "1/0" in caught.value.traceback  # type: ignore[attr-defined]
    with pytest.raises(SyntaxError):
        client[0].execute("1 +", block=True)
    assert client[0]["good"] == 1


def test_a_file_runs_in_the_namespace(client: ipar.Client, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("answer = 6 * 7\nprint('ran')", encoding="utf-8")
    result = client[:].run(str(script))
    result.get()
    assert result.stdout == ["ran\n"] * 3
    assert client[:]["answer"] == [42] * 3
    with pytest.raises(FileNotFoundError):
        client[0].run(str(tmp_path / "none.py"))


# ---------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize(
    ("sequence", "values"),
    [
        ([1, 2, 3, 4, 5], [1, 4, 9, 16, 25]),
        (range(4), [0, 1, 4, 9]),
        ({3: "a", 4: "b"}, [9, 16]),
        ({5}, [25]),
        (np.arange(4), [0, 1, 4, 9]),
        ([], []),
    ],
    ids=str,
)
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "balanced"])
def test_a_map_gives_what_the_builtin_gives(
    client: ipar.Client, sequence: Any, values: list[int], direct: bool
) -> None:
    view = client[:] if direct else client.load_balanced_view()
    assert list(view.map_sync(square, sequence)) == values
    assert list(view.map_sync(square, iter(sequence))) == values


def test_a_map_over_several_sequences_ends_with_the_shortest(client: ipar.Client) -> None:
    for view in (client[:], client.load_balanced_view()):
        assert view.map_sync(pow, [2, 3, 4], itertools.count(1)) == [2, 9, 64]
        assert view.map_sync(lambda *a: sum(a), [1], [2, 3], [4, 5]) == [7]


def test_a_direct_map_gives_each_engine_one_part(client: ipar.Client) -> None:
    for dist in ("b", "r"):
        result = client[:].map_async(square, range(10), dist=dist)
        assert result.get() == [x * x for x in range(10)]
        assert result.engine_id == [0, 1, 2]
        assert (len(result), len(result.msg_ids)) == (10, 3)
    assert client[:].map_async(square, [1, 2]).engine_id == [0, 1]


def test_chunks_are_as_large_as_asked(client: ipar.Client) -> None:
    view = client.load_balanced_view()
    assert len(view.map_async(square, range(10), chunksize=4).msg_ids) == 3
    assert len(view.map_async(square, range(10)).msg_ids) == 10
    assert len(view.map_async(square, range(5000)).msg_ids) <= 1024
    assert view.map_sync(square, range(10), chunksize=4) == [x * x for x in range(10)]
    assert view.map_sync(square, range(100_000)) == [x * x for x in range(100_000)]


def test_a_large_map_keeps_each_failure_to_its_item(client: ipar.Client) -> None:
    def odd(x: int) -> int:
        if x % 1000 == 999:
            raise ValueError(x)
        return x

    result = client.load_balanced_view().map_async(odd, range(20_000))
    values = result.get(return_exceptions=True)
    assert [x for x in values if not isinstance(x, Exception)] == [
        x for x in range(20_000) if x % 1000 != 999
    ]
    assert result.counts().failed == 20
    assert result.failures()[0][0] == 999


@pytest.mark.parametrize(
    ("chunksize", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (True, TypeError)]
)
def test_wrong_chunk_sizes_are_refused(
    client: ipar.Client, chunksize: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="chunksize"):
        client.load_balanced_view().map_async(square, [1], chunksize=chunksize)


def test_wrong_maps_are_refused(client: ipar.Client) -> None:
    for view in (client[:], client.load_balanced_view()):
        with pytest.raises(TypeError, match="at least one sequence"):
            view.map_async(square)
        with pytest.raises(TypeError, match="sequence 2"):
            view.map_async(square, [1], 2)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="colour"):
            view.map_async(square, [1], colour="red")
    with pytest.raises(ValueError, match="dist"):
        client[:].map_async(square, [1], dist="x")


def test_an_error_of_the_sequence_comes_before_anything_is_sent(client: ipar.Client) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    for view in (client[:], client.load_balanced_view()):
        before = len(client.history)
        with pytest.raises(OSError, match="disk"):
            view.map_async(square, broken())
        assert len(client.history) == before


def test_an_item_that_fails_leaves_its_siblings(client: ipar.Client) -> None:
    result = client.load_balanced_view().map_async(lambda x: 1 / x, [1, 0, 2, 0], chunksize=4)
    with pytest.raises(ipar.CompositeError, match="2 x ZeroDivisionError"):
        result.get()
    assert result.ok == [1.0, 0.5]
    assert len(result.failed) == 2
    mixed = result.get(return_exceptions=True)
    assert mixed[::2] == [1.0, 0.5]
    assert all(isinstance(error, ZeroDivisionError) for error in mixed[1::2])
    with pytest.raises(ZeroDivisionError):
        _ = result[1]
    assert result[2] == 0.5


# ---------------------------------------------------------------------------------------- imap


def test_a_lazy_map_takes_only_as_many_items_as_may_be_under_way(client: ipar.Client) -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    lazy = client.load_balanced_view().imap(square, numbers(), max_outstanding=5)
    assert taken == 0
    assert list(itertools.islice(lazy, 10)) == [x * x for x in range(1, 11)]
    assert taken <= 10 + 5
    lazy.cancel()
    assert list(lazy) == []


def test_a_lazy_map_without_order_gives_what_is_there_first(
    client: ipar.Client, new_gate: NewGate
) -> None:
    gate = new_gate("slow")

    def work(x: int) -> int:
        if x == 0:
            gate.wait()
        return x

    lazy = client.load_balanced_view().imap(work, range(4), ordered=False)
    first = {next(lazy), next(lazy), next(lazy)}
    assert first == {1, 2, 3}
    gate.open()
    assert list(lazy) == [0]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_interrupted_lazy_map_goes_on_with_the_item_that_was_waited_for(
    client: ipar.Client, monkeypatch: pytest.MonkeyPatch, ordered: bool
) -> None:
    def interrupted(_predicate: Callable[[], bool], _timeout: float | None) -> bool:
        raise KeyboardInterrupt

    lazy = client.load_balanced_view().imap(square, range(5), ordered=ordered)
    with monkeypatch.context() as patch:
        patch.setattr(client.ledger.waits, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(lazy)
    assert sorted(lazy) == [0, 1, 4, 9, 16]


def test_errors_of_a_lazy_map_come_in_their_turn(client: ipar.Client) -> None:
    def items() -> Iterator[int]:
        yield from (1, 0, 2)
        raise OSError("no more")

    lazy = client.load_balanced_view().imap(lambda x: 4 / x, items())
    assert next(lazy) == 4
    with pytest.raises(ZeroDivisionError):
        next(lazy)
    assert next(lazy) == 2
    with pytest.raises(OSError, match="no more"):
        next(lazy)
    with pytest.raises(StopIteration):
        next(lazy)
    kinds = [type(x) for x in client.load_balanced_view().imap(
        lambda x: 4 / x, [1, 0], return_exceptions=True)]  # fmt: skip
    assert kinds[0] is float
    assert issubclass(kinds[1], ZeroDivisionError)


@pytest.mark.parametrize("most", [0, -1, "many", 1.5, True])
def test_a_wrong_bound_of_a_lazy_map_is_refused(client: ipar.Client, most: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_outstanding must be 'auto' or an int"):
        client.load_balanced_view().imap(square, [1], max_outstanding=most)


# ---------------------------------------------------------------------------------- decorators


def test_a_remote_function_runs_on_the_engines(client: ipar.Client) -> None:
    @client[:].remote(block=True)
    def where() -> int:
        """Tell."""
        return os.getpid()

    @client.load_balanced_view().remote()
    def cube(x: int) -> int:
        return x**3

    assert where() == [client.engines[i]["pid"] for i in range(3)]
    assert (inspect.unwrap(where).__name__, where.__doc__) == ("where", "Tell.")
    assert cube(3).get() == 27


def test_a_parallel_function_gets_parts_and_joins_what_it_returns(client: ipar.Client) -> None:
    for view in (client[:], client.load_balanced_view()):

        @view.parallel(block=True)
        def doubled(part: np.ndarray[Any, Any]) -> Any:
            return part * 2

        assert doubled(np.arange(10)).tolist() == list(range(0, 20, 2))
        assert doubled.map([1, 2]) == [2, 4]

        @view.parallel(dist="r", block=True)
        def added(a: list[int], b: list[int]) -> list[int]:
            return [x + y for x, y in zip(a, b, strict=True)]

        assert added(list(range(5)), [10] * 5) == [10, 11, 12, 13, 14]
        with pytest.raises(TypeError, match="keyword"):
            added([1], b=[2])


def test_required_modules_and_functions_are_there(client: ipar.Client) -> None:
    def use() -> Any:
        return json.dumps(square(3)), os.sep  # type: ignore[name-defined]  # noqa: F821

    assert client[:].apply_sync(ipar.require("json", os, square)(use)) == [("9", os.sep)] * 3
    missing = ipar.require("no_such_module")(square)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        client[0].apply_sync(missing, 1)
    with pytest.raises(TypeError, match="int"):
        ipar.require(3)  # type: ignore[arg-type]


def test_imports_happen_here_and_on_the_engines(run_python: Callable[..., str]) -> None:
    printed = run_python(
        """
        import sys
        import ipyasyncresult as ipar
        with ipar.Cluster(n=2) as client:
            view = client[:]
            with view.sync_imports():
                import textwrap
                from collections import Counter, deque
            print(textwrap.dedent(" here"))
            print(view.pull("textwrap.dedent(' there')", block=True))
            print(view.pull("Counter('aa')['a']", block=True))
            with view.sync_imports(local=False, quiet=True):
                import colorsys
            print("colorsys" in sys.modules)
            print(view.pull("colorsys.__name__", block=True))
        """
    )
    assert printed.splitlines() == [
        "importing on engines: import textwrap",
        "importing on engines: from collections import Counter, deque",
        "here",
        "['there', 'there']",
        "[2, 2]",
        "False",
        "['colorsys', 'colorsys']",
    ]
