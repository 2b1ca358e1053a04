"""``--local``: the cell in this process."""

from __future__ import annotations

import ast
from typing import Any

from ipyasyncresult.magics.autopx import without_autopx

__all__ = ["run_here"]


def run_here(shell: Any, code: str, above: int = 0) -> BaseException | None:
    """Run a cell in the user's namespace; the value of its last expression is displayed.

    Not by ``shell.run_cell``, which would show an error at once: here it is returned, for whoever
    shows the errors of the engines beside it.

    Parameters
    ----------
    shell : InteractiveShell
    code : str
    above : int
        How many lines of the user's cell stand above the code.

    Raises
    ------
    KeyboardInterrupt
        When the cell was interrupted.
    """
    try:
        _execute(shell, code, above)
    except (Exception, SystemExit) as error:  # noqa: BLE001  the user's cell may raise anything
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        return error.with_traceback(trace)
    return None


def _execute(shell: Any, code: str, above: int) -> None:
    with without_autopx(shell):
        source = "\n" * above + shell.transform_cell(code)
    outer = (
        shell.displayhook.exec_result
    )  # versions differ in when they count the shell's number up
    number = outer.execution_count if outer is not None else shell.execution_count
    name = shell.compile.cache(source, number)
    tree = shell.transform_ast(shell.compile.ast_parse(source, name))
    body = tree.body
    last = [body.pop()] if body and isinstance(body[-1], ast.Expr) else []
    for node, mode in ((tree, "exec"), (ast.Interactive(last), "single")):
        exec(shell.compile(node, name, mode), shell.user_ns)  # noqa: S102  the user's own cell
