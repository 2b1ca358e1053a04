"""Functions as they are on the engine: loaded once, and bound to its namespace at every call.

A function that travelled by value brings the globals that it used where it was pickled.  Names
that were not found there are looked up in the engine's namespace at each call, and names that it
declares ``global`` and sets are written back, so that ``view.push({'a': 1})`` followed by
``view.apply(lambda: a)`` works.  What was captured wins over the namespace.
"""

from __future__ import annotations

import builtins
import dis
import functools
import importlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType
from typing import Any

from ipyasyncresult.core.unpickling import loads
from ipyasyncresult.worker.awaiting import settle
from ipyasyncresult.worker.namespace import current_namespace

__all__ = ["LoadedFunction", "Required", "load_function"]

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})


class Required:
    """A function with what it needs on the engine; made by ``require``.

    Parameters
    ----------
    function : callable
    modules : tuple of str
        Imported before each call, and put into the namespace as ``import`` does.
    objects : dict
        Put into the namespace before each call.
    """

    def __init__(
        self, function: Callable[..., Any], modules: tuple[str, ...], objects: dict[str, Any]
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.modules = modules
        self.objects = objects

    def provide(self, namespace: dict[str, Any]) -> None:
        """Put everything into the namespace; ImportError where a module is missing."""
        for name in self.modules:
            importlib.import_module(name)
            top = name.partition(".")[0]
            namespace[top] = sys.modules[top]
        namespace.update(self.objects)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it where it was defined: what it needs and misses there is put into its globals."""
        needed: dict[str, Any] = {}
        self.provide(needed)
        for name, value in needed.items():
            getattr(self.function, "__globals__", {}).setdefault(name, value)
        return self.function(*args, **kwargs)


class _Scope:
    """The globals that some functions brought with them, and the names they miss or set."""

    __slots__ = ("captured", "missing", "variables", "written")

    def __init__(self, variables: dict[str, Any], read: set[str], written: set[str]) -> None:
        self.variables = variables
        self.written = tuple(sorted(written))
        self.missing = tuple(sorted((read | written) - variables.keys() - vars(builtins).keys()))
        # Restored before each call: a cached function must not remember what the last task set.
        self.captured = {name: variables[name] for name in written if name in variables}

    def fill(self, namespace: dict[str, Any]) -> None:
        variables = self.variables
        variables.update(self.captured)
        for name in self.missing:
            if name in namespace:
                variables[name] = namespace[name]
            else:
                variables.pop(name, None)

    def write_back(self, namespace: dict[str, Any]) -> None:
        for name in self.written:
            if name in self.variables:
                namespace[name] = self.variables[name]
            else:
                namespace.pop(name, None)


class LoadedFunction:
    """A callable of this process, and how to bind it to the namespace.

    Attributes
    ----------
    function : callable
    name : str
        For messages.
    """

    __slots__ = ("_home", "_required", "_scopes", "function", "name")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function: Callable[..., Any] = function
        self._required: list[Required] = []
        self._scopes = _find_scopes(function, self._required)
        self.name: str = getattr(function, "__name__", None) or type(function).__name__
        self._home = self._find_home()

    def _find_home(self) -> dict[str, Any] | None:
        module = sys.modules.get(getattr(self.function, "__module__", None) or "")
        home = vars(module) if module is not None else {}
        return home if home.get(self.name) is self.function else None

    @property
    def stale(self) -> bool:
        """Whether its module has another function of its name by now (it was reloaded)."""
        return self._home is not None and self._home.get(self.name) is not self.function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it in the current namespace; coroutines are awaited."""
        if self._scopes or self._required:
            with self.bound() as function:
                return settle(function(*args, **kwargs))
        value = self.function(*args, **kwargs)
        return value if value is None else settle(value)

    @contextmanager
    def bound(self) -> Iterator[Callable[..., Any]]:
        """Within the context the function sees the current namespace."""
        namespace = current_namespace()
        for required in self._required:
            required.provide(namespace)
        for scope in self._scopes:
            scope.fill(namespace)
        try:
            yield self.function
        finally:
            for scope in self._scopes:
                scope.write_back(namespace)


def _find_scopes(function: Any, required: list[Required]) -> list[_Scope]:
    """The globals of all functions that travelled by value and can be reached from `function`."""
    found: dict[int, tuple[dict[str, Any], set[str], set[str]]] = {}
    seen: set[int] = set()
    stack: list[Any] = [function]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Required):
            required.append(value)
        if isinstance(value, FunctionType):
            if not _came_by_value(value):
                continue
            variables = value.__globals__
            _, read, written = found.setdefault(id(variables), (variables, set(), set()))
            _collect_names(value.__code__, read, written)
        stack.extend(_reachable(value))
    scopes = [_Scope(*names) for names in found.values()]
    return [scope for scope in scopes if scope.missing or scope.written]


def _came_by_value(function: FunctionType) -> bool:
    module = sys.modules.get(function.__module__ or "")
    return module is None or function.__globals__ is not vars(module)


def _reachable(value: Any) -> Iterator[Any]:
    """What calling `value` may call, as far as it can be seen."""
    if isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        for item in list(value.__globals__.values()):
            if isinstance(item, FunctionType | MethodType | functools.partial | Required | type):
                yield item
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        yield from (value.__func__, type(value.__self__))
    elif isinstance(value, staticmethod | classmethod):
        yield value.__func__
    elif isinstance(value, property):
        yield from (value.fget, value.fset, value.fdel)
    elif isinstance(value, type):
        module = sys.modules.get(value.__module__)
        if getattr(module, value.__name__, None) is not value:  # it came by value
            yield from (*vars(value).values(), *value.__bases__)
    elif isinstance(value, Required):
        yield value.function
    elif callable(value):
        yield type(value)


def _collect_names(code: CodeType, read: set[str], written: set[str]) -> None:
    for instruction in dis.get_instructions(code):
        if instruction.opname in _READS:
            read.add(instruction.argval)
        elif instruction.opname in _WRITES:
            written.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _collect_names(constant, read, written)


# ------------------------------------------------------------------------------------ the cache

_CACHE_BYTES = 64 * 1024 * 1024
_USES_REFERENCE = b"resolve_reference"  # such a function may be another one at each load

_cache: OrderedDict[bytes, LoadedFunction] = OrderedDict()
_cached_bytes = 0
_cache_lock = threading.Lock()  # for those who change it; a lookup needs none


def load_function(data: bytes) -> LoadedFunction:
    """The function from ``dump_function``; the same bytes are unpickled once.

    Raises whatever unpickling raises: it imports modules and runs code.  Any thread.
    """
    loaded = _cache.get(data)
    if loaded is not None and not loaded.stale:
        try:
            _cache.move_to_end(data)
        except KeyError:  # thrown out by another thread
            pass
        return loaded
    data = bytes(data)
    loaded = LoadedFunction(loads(data))
    if _USES_REFERENCE not in data:
        _remember(data, loaded)
    return loaded


def _remember(data: bytes, loaded: LoadedFunction) -> None:
    global _cached_bytes
    with _cache_lock:
        if data not in _cache:
            _cached_bytes += len(data)
        _cache[data] = loaded
        while _cached_bytes > _CACHE_BYTES and len(_cache) > 1:
            oldest, _ = _cache.popitem(last=False)
            _cached_bytes -= len(oldest)
