"""Functions and arguments to bytes and back."""

from __future__ import annotations

import functools
import gc
import inspect
import linecache
import math
import operator
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ipyasyncresult.errors import SerializationError
from ipyasyncresult.worker import loaded, namespace, sources
from ipyasyncresult.worker.failures import format_error
from ipyasyncresult.worker.functions import (
    OUT_OF_BAND_BYTES,
    Reference,
    dump_arguments,
    dump_function,
    dump_result,
    load_arguments,
    load_function,
    load_result,
    require,
)
from ipyasyncresult.worker.typed import Typed


@pytest.fixture(autouse=True)
def engine() -> Iterator[dict[str, Any]]:
    """The namespace of an engine, as the functions under test see it."""
    variables: dict[str, Any] = {}
    namespace.use_namespace(variables)
    yield variables
    namespace.use_namespace({})


def notebook(code: str) -> dict[str, Any]:
    """The variables of a notebook that ran this code."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    exec(code, variables)
    return variables


def there(function: Any, *args: Any, **kwargs: Any) -> Any:
    """The function called on the other side."""
    data, buffers = dump_arguments(args, kwargs)
    args, kwargs = load_arguments(data, buffers)
    return load_function(dump_function(function))(*args, **kwargs)


# ---------------------------------------------------------------------------------- functions


def test_an_importable_function_travels_by_name() -> None:
    assert load_function(dump_function(math.sqrt)).function is math.sqrt
    assert len(dump_function(operator.add)) < 60


def test_the_bytes_of_an_importable_function_are_made_once() -> None:
    assert dump_function(math.cos) is dump_function(math.cos)


def test_a_function_whose_module_is_gone_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("soon_gone")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("def f(): return 1", vars(module))
    gone = weakref.ref(module.f)
    assert dump_function(module.f) is dump_function(module.f)
    del module.f
    gc.collect()
    assert gone() is None


def test_a_function_that_travels_by_value_is_written_anew_each_time() -> None:
    variables = notebook("factor = 2\ndef f(x): return x * factor")
    assert there(variables["f"], 3) == 6
    variables["factor"] = 10
    assert there(variables["f"], 3) == 30


def test_lambdas_closures_partials_and_methods_travel() -> None:
    def outer(n: int) -> Any:
        return lambda x: x + n

    assert there(lambda x: x * 2, 4) == 8
    assert there(outer(5), 1) == 6
    assert there(functools.partial(pow, 2), 5) == 32
    assert there("a-b".split, "-") == ["a", "b"]


def test_a_class_of_a_notebook_travels_with_its_instances() -> None:
    variables = notebook(
        "class Point:\n    def __init__(self, x): self.x = x\ndef double(p): return Point(p.x * 2)"
    )
    value = there(variables["double"], variables["Point"](4))
    assert load_result(*dump_result(value)).x == 8


def typed(code: str, filename: str) -> dict[str, Any]:
    """The variables of a notebook that ran this cell, which is in no file."""
    lines = code.splitlines(keepends=True)
    linecache.cache[filename] = (len(code), None, lines, filename)
    variables: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, filename, "exec"), variables)
    return variables


CELL = """
def inner(x):
    return 1 / x

class Model:
    def fit(self, x):
        return [inner(y) for y in x]

def outer(x):
    return Model().fit([x])
"""


def test_tracebacks_show_the_lines_of_functions_that_were_typed_into_a_cell() -> None:
    data = dump_function(typed(CELL, "<cell 1>")["outer"])
    del linecache.cache["<cell 1>"]  # the other side never saw it
    with pytest.raises(ZeroDivisionError) as raised:
        load_function(data)(0)
    text = format_error(raised.value)
    for line in ("return Model().fit([x])", "return [inner(y) for y in x]", "return 1 / x"):
        assert line in text
    assert text.count('File "<cell 1>", line') >= 3
    assert "dynamic-code" not in text


def test_source_can_be_had_where_a_function_came_by_value() -> None:
    data = dump_function(typed(CELL, "<cell 2>")["inner"])
    del linecache.cache["<cell 2>"]
    assert inspect.getsource(load_function(data).function) == "def inner(x):\n    return 1 / x\n"


def test_the_newest_cells_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_MOST_CELLS", 3)
    monkeypatch.setattr(sources, "_cells", type(sources._cells)())
    for number in range(5):
        name = f"<kept {number}>"
        data = dump_function(typed("def f():\n    pass\n", name)["f"])
        del linecache.cache[name]
        load_function(data)
    kept = [number for number in range(5) if f"<kept {number}>" in linecache.cache]
    assert kept == [2, 3, 4]


def test_a_function_without_source_travels_all_the_same() -> None:
    variables: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def f(x):\n    return x + 1\n", "<nowhere>", "exec"), variables)
    assert load_function(dump_function(variables["f"]))(1) == 2


def test_the_same_bytes_are_unpickled_once() -> None:
    data = dump_function(lambda: 1)
    assert load_function(data) is load_function(bytes(bytearray(data)))


def test_a_reloaded_module_gives_its_new_function(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dump_function(reloaded)
    assert load_function(data)() == "old"
    replaced = eval("lambda: 'new'")
    replaced.__name__ = replaced.__qualname__ = "reloaded"
    monkeypatch.setitem(globals(), "reloaded", replaced)
    assert load_function(data)() == "new"


def reloaded() -> str:
    return "old"


def test_the_cache_of_functions_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "_cache", type(loaded._cache)())
    monkeypatch.setattr(loaded, "_cached_bytes", 0)
    monkeypatch.setattr(loaded, "_CACHE_BYTES", 10_000)
    for number in range(50):
        payload = bytes([number]) * 1000
        load_function(dump_function(lambda payload=payload: payload))
    assert 1 < len(loaded._cache) < 10


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="function must be callable, not int"):
        dump_function(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ names and the namespace


def test_a_missing_name_is_looked_up_in_the_namespace_at_each_call(engine: dict[str, Any]) -> None:
    data = dump_function(notebook("f = lambda: a")["f"])
    engine["a"] = 1
    assert load_function(data)() == 1
    engine["a"] = 2
    assert load_function(data)() == 2
    del engine["a"]
    with pytest.raises(NameError, match="'a'"):
        load_function(data)()


def test_captured_values_win_over_the_namespace(engine: dict[str, Any]) -> None:
    engine["a"] = "engine"
    assert there(notebook("a = 'notebook'\nf = lambda: a")["f"]) == "notebook"


def test_names_of_helpers_nested_functions_and_methods_are_found(engine: dict[str, Any]) -> None:
    engine.update(a=1, b=2, c=3)
    code = (
        "def helper(): return b\n"
        "class Tool:\n"
        "    def use(self): return c\n"
        "def f():\n"
        "    inner = lambda: a\n"
        "    return inner(), helper(), Tool().use()\n"
    )
    assert there(notebook(code)["f"]) == (1, 2, 3)


def test_global_assignments_are_written_back(engine: dict[str, Any]) -> None:
    there(notebook("def f():\n    global x\n    x = 5")["f"])
    assert engine == {"x": 5}


def test_global_assignments_survive_an_error(engine: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        there(notebook("def f():\n    global x\n    x = 5\n    1 / 0")["f"])
    assert engine == {"x": 5}


def test_a_cached_function_does_not_remember_what_a_task_set(engine: dict[str, Any]) -> None:
    data = dump_function(notebook("n = 0\ndef f():\n    global n\n    n += 1\n    return n")["f"])
    assert [load_function(data)() for _ in range(3)] == [1, 1, 1]
    assert engine["n"] == 1


def test_a_counter_in_the_namespace_counts(engine: dict[str, Any]) -> None:
    engine["n"] = 0
    data = dump_function(notebook("def f():\n    global n\n    n += 1\n    return n")["f"])
    assert [load_function(data)() for _ in range(3)] == [1, 2, 3]


def test_push_and_pull_work_on_the_namespace(engine: dict[str, Any]) -> None:
    there(namespace.push, {"a": [1, 2], "b": 3})
    assert there(namespace.pull, ("a", "b")) == [[1, 2], 3]
    assert there(namespace.pull, "a[1]") == 2
    assert there(namespace.has, "b")
    there(namespace.clear)
    assert engine == {}


def test_pull_names_what_is_missing() -> None:
    with pytest.raises(NameError, match="'nowhere' is not defined on this engine"):
        there(namespace.pull, ("nowhere",))


# ----------------------------------------------------------------------------------- Reference


def test_a_reference_is_resolved_at_any_depth(engine: dict[str, Any]) -> None:
    engine["a"] = [10, 20]
    got = there(
        lambda *args, **kwargs: (args, kwargs), [{"k": Reference("a[1]")}], x=Reference("a")
    )
    assert got == (([{"k": 20}],), {"x": [10, 20]})


def test_a_reference_may_be_the_function(engine: dict[str, Any]) -> None:
    engine["f"] = lambda: "first"
    data = dump_function(Reference("f"))
    assert load_function(data)() == "first"
    engine["f"] = lambda: "second"
    assert load_function(data)() == "second"


def test_a_reference_as_a_result_stays_one() -> None:
    assert load_result(*dump_result([Reference("a")])) == [Reference("a")]


def test_a_reference_needs_an_expression() -> None:
    with pytest.raises(TypeError, match="must be a string, not int"):
        Reference(3)  # type: ignore[arg-type]
    with pytest.raises(SyntaxError):
        Reference("a b")


# ------------------------------------------------------------------------------------- require


def test_require_imports_modules_and_brings_functions(engine: dict[str, Any]) -> None:
    helper = notebook("def helper(x): return -x")["helper"]
    function = notebook("def f(x): return helper(colorsys.rgb_to_hsv(x, x, x)[2]), four")["f"]
    assert there(require("colorsys", helper, four=4)(function), 0.5) == (-0.5, 4)
    assert engine["four"] == 4


def test_require_names_the_missing_module() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        there(require("no_such_module")(lambda: None))


def test_require_refuses_what_is_no_module_and_no_function() -> None:
    with pytest.raises(TypeError, match="not int"):
        require(3)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- arguments and results


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, 2j, "text", b"bytes", (1, [2, {"k": (3,)}]), range(5), [1] * 1000, {1, 2}],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    data, buffers = dump_result(value)
    again = load_result(data, buffers)
    assert again == value
    assert type(again) is type(value)


def test_large_buffers_travel_beside_the_stream_and_small_ones_in_it() -> None:
    large, small = np.arange(OUT_OF_BAND_BYTES, dtype="u1"), np.arange(10)
    data, buffers = dump_arguments((large, small), {})
    assert [buffer.nbytes for buffer in buffers] == [OUT_OF_BAND_BYTES]
    assert len(data) < 1000
    args, _ = load_arguments(data, buffers)
    assert (args[0] == large).all()
    assert (args[1] == small).all()


def test_long_bytes_travel_beside_the_stream() -> None:
    value = bytes(OUT_OF_BAND_BYTES)
    data, buffers = dump_result(value)
    assert len(data) < 200
    assert load_result(data, buffers) == value


class Locked:
    def __init__(self) -> None:
        self.inner = threading.Lock()


def test_an_argument_that_cannot_be_pickled_is_named_with_its_path() -> None:
    with pytest.raises(SerializationError, match=r"^argument 2\['lock'\]\.inner: cannot pickle"):
        dump_arguments((1, {"fine": 1, "lock": Locked()}), {})
    with pytest.raises(SerializationError, match=r"^argument 'key'\[1\]\.inner: cannot pickle"):
        dump_arguments((), {"key": [1, Locked()]})


def test_a_function_that_captured_something_unpicklable_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match="captured variable 'lock': cannot pickle"):
        dump_function(lambda: lock)
    variables = notebook("def f(): return tool.inner")
    variables["tool"] = Locked()
    with pytest.raises(SerializationError, match=r"^function 'f', global 'tool'\.inner: cannot"):
        dump_function(variables["f"])


def test_a_result_that_cannot_be_pickled_is_named_and_shown() -> None:
    with pytest.raises(SerializationError, match=r"^result\[3\]\.inner: cannot") as caught:
        dump_result([0, 1, 2, Locked()])
    assert "the result was [0, 1, 2, <" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def nothing() -> Iterator[int]:
    yield from ()


@pytest.mark.parametrize("lazy", [nothing(), map(str, ()), zip(()), iter([])])
def test_a_lazy_result_is_refused_with_advice(lazy: Any) -> None:
    with pytest.raises(SerializationError, match=r"materialise it: return list\(\.\.\.\)"):
        dump_result(lazy)


def test_a_generator_inside_an_argument_is_refused_with_advice() -> None:
    with pytest.raises(SerializationError, match=r"argument 1\[0\]: .*generator.*pass list"):
        dump_arguments(([nothing()],), {})


def test_a_structure_that_is_too_deep_fails_cleanly() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="recursion"):
        dump_result(deep)
    while deep:  # taken apart from the outside: its destructor would recurse
        deep = deep.pop()


def test_many_builtins_take_the_fast_way_and_whatever_is_among_them_the_other_one() -> None:
    plain = [list(range(50)), {str(i): [i, None, 1.5, "x"] for i in range(50)}, [[[[[1]]]]] * 20]
    for value in (*plain, plain):
        data, buffers = dump_result(value)
        assert b"cloudpickle" not in data
        assert load_result(data, buffers) == value
    made = notebook("class Own(int): pass")["Own"]
    data, buffers = dump_result([*range(1000), made(3)])
    assert b"cloudpickle" in data  # the class travels by value: the plain pickler would name it
    back = load_result(data, buffers)
    assert back[-1] == 3
    assert type(back[-1]).__name__ == "Own"
    (args, kwargs) = load_arguments(*dump_arguments((list(range(100)), made), {"k": [1] * 100}))
    assert args[0] == list(range(100))
    assert args[1](2) == 2
    assert kwargs == {"k": [1] * 100}


@pytest.mark.parametrize(
    "data", [b"", b"3", b"x Cell In[7]", b"-1 Cell In[7]", b"9999999 Cell", b"\xff 1"]
)
def test_what_says_not_where_a_cell_was_typed_is_left_out(data: bytes) -> None:
    assert Typed.decode(data) is None


def test_where_a_cell_was_typed_travels_as_bytes() -> None:
    typed = Typed("Cell In[7]", 2)
    assert Typed.decode(typed.encode()) == typed
