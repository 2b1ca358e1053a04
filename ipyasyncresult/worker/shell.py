"""The IPython shell of an engine: what its cells show goes to the running task."""

# IPython's own methods have no annotations.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core import page
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from ipyasyncresult.core.outputs import Output, OutputKind
from ipyasyncresult.worker.awaiting import run_coroutine
from ipyasyncresult.worker.capture import current_recorder
from ipyasyncresult.worker.failures import RAISED_BY_US, cut_hidden_frames, format_error
from ipyasyncresult.worker.recorder import Recorder
from ipyasyncresult.worker.sources import cell_of
from ipyasyncresult.worker.typed import Typed

__all__ = ["EngineShell"]

_WIDGET = "application/vnd.jupyter.widget-view+json"
_NO_WIDGETS = "(a widget of an engine is shown as text)"
_INLINE_BACKEND = "matplotlib_inline.backend_inline"


def _without_widgets(data: dict[str, Any]) -> dict[str, Any]:
    """A page would look for a widget's model in the notebook's kernel, and go on loading."""
    if _WIDGET not in data:
        return data
    shown = {mime: value for mime, value in data.items() if mime != _WIDGET}
    shown["text/plain"] = f"{data.get('text/plain', '')}\n{_NO_WIDGETS}".lstrip("\n")
    return shown


class TaskDisplayHook(DisplayHook):
    """The value of a cell's last expression becomes an ``execute_result``."""

    shell: EngineShell

    def quiet(self) -> bool:
        return bool(self.semicolon_at_end_of_expression(self.shell.cell))

    def write_output_prompt(self) -> None:
        """Nothing: whoever shows the result writes ``Out[n]``."""

    def write_format_data(
        self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
    ) -> None:
        recorder = current_recorder() or Recorder()
        self.shell.execute_result = recorder.display(
            "execute_result",
            _without_widgets(format_dict),
            md_dict,
            execution_count=self.prompt_count,
        )

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Nothing: an engine keeps no history of outputs."""

    def finish_displayhook(self) -> None:
        self._is_active = False


class TaskDisplayPublisher(DisplayPublisher):
    """``display``, ``update_display`` and ``clear_output``."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: object = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_options: Any,
    ) -> None:
        self._validate_data(data, metadata)
        data = _without_widgets(data)
        kind: OutputKind = "update_display_data" if update else "display_data"
        if recorder := current_recorder():
            recorder.display(kind, data, metadata, display_id=(transient or {}).get("display_id"))

    def clear_output(self, wait: bool = False) -> None:
        if recorder := current_recorder():
            recorder.clear(wait)


class _Compiler(CachingCompiler):
    """Calls code as the notebook does where it was typed: in the cell of a task, or in one from
    which functions came.  What was typed nowhere has the engine's number, and says so."""

    typed: Typed | None = None  # of the cell that comes next

    def __init__(self) -> None:
        super().__init__()
        self._named: dict[str, Typed] = {}

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        typed, self.typed = self.typed, None  # a cell that this one runs was typed elsewhere
        if typed is not None:
            transformed_code = "\n" * typed.above + transformed_code
        name: str = super().cache(transformed_code, number, raw_code)
        self._named[name] = typed or Typed(f"Engine In[{number}]", 0)
        return name

    def ast_parse(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> Any:
        above = self._named[filename].above if filename in self._named else 0
        return super().ast_parse("\n" * above + source, filename, symbol)

    def format_code_name(self, name: str) -> tuple[str, str] | None:
        typed = self._named.get(name)
        label, _, number = (typed.cell if typed else cell_of(name)).rpartition(" ")
        return (label, number) if number else None


class EngineShell(InteractiveShell):
    """An interactive shell without a terminal, a history and a person.

    It starts no thread and opens no socket, so it may be made before or after a fork.

    Attributes
    ----------
    cell : str
        The code that runs, or ran last.
    execute_result : Output or None
        What the displayhook showed last in this cell.
    cell_traceback : str
        Traceback of the cell's own error, coloured.
    """

    compiler_class = Type(_Compiler)
    displayhook_class = Type(TaskDisplayHook)
    display_pub_class = Type(TaskDisplayPublisher)
    # `!command` writes to this process's own descriptors, which are captured: no terminal between
    # them, so stderr stays stderr and lines end as the command ends them.
    system = InteractiveShell.system_raw

    cell = ""
    execute_result: Output | None = None
    cell_traceback = ""
    compile: _Compiler
    _depth = 0  # more than 1: a cell runs a cell

    def __init__(self, **options: Any) -> None:
        config = Config({"HistoryManager": {"enabled": False}})
        config.merge(options.pop("config", Config()))
        super().__init__(config=config, **options)
        self.autoindent = False
        self.loop_runner = run_coroutine
        # Typed by nobody: the error of the cell says enough.
        warnings.filterwarnings("ignore", message="To exit: use 'exit', 'quit'")

    def init_environment(self) -> None:
        # A pager would wait for a key press.
        os.environ.update(PAGER="cat", GIT_PAGER="cat")
        os.environ.setdefault("MPLBACKEND", f"module://{_INLINE_BACKEND}")

    def init_hooks(self) -> None:
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(page.display_page), 90)

    def enable_gui(self, gui: str | None = None) -> None:
        """Nothing for ``%matplotlib inline`` and its like; engines run no event loop of a GUI."""
        if gui not in (None, "inline", "agg", "asyncio"):
            raise UsageError(f"an engine has no screen for gui {gui!r}; use %matplotlib inline")

    def ask_exit(self) -> None:
        """What ``exit`` and ``quit`` do."""
        raise UsageError("exit: a cell cannot end its engine; use client.shutdown()")

    # ------------------------------------------------------------------------------ running

    def run_task(
        self, code: str, *, silent: bool, store_history: bool, typed: Typed | None = None
    ) -> Any:
        """Run a cell; gives IPython's ``ExecutionResult``."""
        self.cell, self.execute_result, self.cell_traceback = code, None, ""
        self.compile.typed = typed
        result = self.run_cell(code, store_history=store_history, silent=silent)
        if result.success and self.cell_traceback:
            # Shown after the cell had ended well: drawing its figures failed.
            self._write_error(self.cell_traceback)
        return result

    def run_cell(self, raw_cell: str, *args: Any, **kwargs: Any) -> Any:
        self._depth += 1
        try:
            return super().run_cell(raw_cell, *args, **kwargs)
        finally:
            self._depth -= 1

    def clear_namespace(self) -> None:
        """Forget all variables of tasks."""
        self.reset(new_session=False)

    def flush_figures(self) -> None:
        """Show the figures that were drawn since the last time, as the end of a cell does."""
        backend = sys.modules.get(_INLINE_BACKEND)
        if backend is not None:
            backend.flush_figures()

    # ------------------------------------------------------------------------------- errors

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        kwargs["exception_only"] = False  # of a SystemExit, too, one wants to know where
        _, error, frames = exc_tuple or sys.exc_info()
        if isinstance(error, RAISED_BY_US):
            cut_hidden_frames(frames)
        if error is not None and _holds_group(error):
            # IPython would print these itself, past `_showtraceback`.
            self._showtraceback(type(error), error, [format_error(error)])
            return
        super().showtraceback(exc_tuple, *args, **kwargs)

    def show_usage_error(self, exc: BaseException) -> None:
        self._showtraceback(type(exc), exc, [f"UsageError: {exc}"])

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        """Keep the traceback of the cell's own error, which becomes its outcome; print others
        (of a ``%run`` script, of a callback)."""
        text = self.InteractiveTB.stb2text(stb)
        running = self.displayhook.exec_result
        is_own = (
            running is None
            or evalue is running.error_in_exec
            or evalue is running.error_before_exec
        )
        if is_own and self._depth == 1:
            self.cell_traceback = text
        else:
            self._write_error(text)

    def _write_error(self, text: str) -> None:
        sys.stderr.write(text + "\n")

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Instead of IPython's own copy of every output, which it would keep for ever."""
        yield

    def _format_exception_for_storage(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        return {}


def _holds_group(error: BaseException | None) -> bool:
    for _ in range(1000):  # user code can tie a chain into a ring
        if error is None or isinstance(error, BaseExceptionGroup):
            break
        error = error.__context__
    return isinstance(error, BaseExceptionGroup)
