"""What running a cell gives: small, picklable, and shown as the cell's ``Out``."""

from __future__ import annotations

from typing import Any

__all__ = ["ExecuteReply"]


class ExecuteReply:
    """The value of a cell's task: ``view.execute('1+1').get()`` is ``<ExecuteReply[1]: 2>``.

    Attributes
    ----------
    execution_count : int
        The number of the cell on its engine.
    execute_result : dict or None
        ``execution_count``, ``data`` (MIME types to content) and ``metadata`` of the value of its
        last expression; None if it has none.
    """

    __slots__ = ("execute_result", "execution_count")

    def __init__(self, execution_count: int, execute_result: dict[str, Any] | None = None) -> None:
        self.execution_count: int = execution_count
        self.execute_result: dict[str, Any] | None = execute_result

    @property
    def data(self) -> dict[str, Any]:
        """MIME types to content; empty if the cell has no value."""
        return dict(self.execute_result["data"]) if self.execute_result else {}

    @property
    def text(self) -> str:
        """The value as plain text."""
        return str(self.data.get("text/plain", ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return ExecuteReply, (self.execution_count, self.execute_result)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return f"<ExecuteReply[{self.execution_count}]: {text}>"

    def _repr_mimebundle_(self, **_options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.execute_result is None:
            return {"text/plain": repr(self)}, {}
        return self.data, dict(self.execute_result["metadata"])
