"""The namespace in which the tasks of this process run, and the tasks that work on it.

The runner says which dict it is (an engine: that of its shell).  :func:`push`, :func:`pull`,
:func:`clear` and :func:`has` are ordinary functions: a view sends them to the engines as it does
any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

__all__ = [
    "Reference",
    "clear",
    "current_namespace",
    "has",
    "pull",
    "push",
    "resolve_reference",
    "use_namespace",
]

# One namespace per process, as in any interpreter.  Written by `use_namespace` only.
_variables: dict[str, Any] = {}
_reset: Callable[[], object] = _variables.clear


def use_namespace(variables: dict[str, Any], reset: Callable[[], object] | None = None) -> None:
    """From now on tasks of this process see these variables; `reset` empties them."""
    global _variables, _reset
    _variables, _reset = variables, reset or variables.clear


def current_namespace() -> dict[str, Any]:
    """The variables that tasks of this process share."""
    return _variables


class Reference:
    """A name on the engine, given as an argument: ``view.apply(f, Reference('a'))``.

    Parameters
    ----------
    name : str
        A variable of the engine's namespace, or an expression: ``'a'``, ``'a.b'``, ``'a[0]'``.

    Raises
    ------
    TypeError
        `name` is not a string.
    SyntaxError
        `name` is not an expression.
    """

    __slots__ = ("name",)

    were_made: ClassVar[bool] = False
    """Whether any was made in this process: who passes arguments on as they are need not look for
    one before."""

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name of a Reference must be a string, not {type(name).__name__}")
        compile(name, "<Reference>", "eval")
        self.name: str = name
        Reference.were_made = True

    def __repr__(self) -> str:
        return f"<Reference: {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Reference, self.name))

    def __reduce__(self) -> tuple[Any, ...]:
        return Reference, (self.name,)


def resolve_reference(name: str, variables: dict[str, Any] | None = None) -> Any:
    """The value of a name or an expression, by default in the current namespace.

    Raises
    ------
    NameError
        A variable in it does not exist there.
    """
    try:
        return eval(name, _variables if variables is None else variables)  # noqa: S307  running the user's code is what engines do
    except NameError as error:
        raise NameError(f"{error} on this engine", name=error.name) from None


def push(variables: Mapping[str, Any]) -> None:
    """Set variables in the namespace."""
    _variables.update(variables)


def pull(names: str | Sequence[str]) -> Any:
    """The value of one variable or expression, or a list of the values of several.

    Raises
    ------
    NameError
        One of them does not exist; the message names it.
    """
    if isinstance(names, str):
        return resolve_reference(names)
    return [resolve_reference(name) for name in names]


def has(name: str) -> bool:
    """Whether the namespace has this variable."""
    return name in _variables


def clear() -> None:
    """Empty the namespace; what a fresh shell has stays."""
    _reset()
