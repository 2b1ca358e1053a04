"""The magics: ``%px``, ``%%px``, ``%pxresult``, ``%pxconfig``, ``%autopx``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from ipyasyncresult.magics.arguments import CODE, DEFAULTS, GROUPS, LIST, OUT, RUN, parse, takes
from ipyasyncresult.magics.autopx import AutoPx
from ipyasyncresult.magics.foreground import run_in_foreground, stop_work
from ipyasyncresult.magics.local import run_here
from ipyasyncresult.magics.settings import ConfiguredSettings, Settings
from ipyasyncresult.magics.targets import format_targets
from ipyasyncresult.magics.typed import where_typed

if TYPE_CHECKING:
    from ipyasyncresult.client.anyclient import AnyClient
    from ipyasyncresult.client.cluster import Cluster
    from ipyasyncresult.client.directview import DirectView
    from ipyasyncresult.core.asyncresult import AsyncResult

__all__ = ["EngineMagics"]

_LABEL_LENGTH = 60


@magics_class
class EngineMagics(ConfiguredSettings, Magics):
    """The magics of one shell, or of one view that was activated with a suffix.

    The main thread only, as everything that runs cells.

    Attributes
    ----------
    view : DirectView or None
        The engines; None: all engines of the client that this process shares.
    settings : Settings
        The defaults: its traits, which ``%pxconfig``, ``%config`` and configuration files set.
    last_result : AsyncResult or None
        What ``%pxresult`` shows; kept until the next cell.
    """

    def __init__(
        self, shell: Any, view: DirectView | None = None, suffix: str = "", **options: Any
    ) -> None:
        super().__init__(shell=shell, **options)
        self.view = view
        self.suffix = suffix
        self.last_result: AsyncResult | None = None
        self._autopx = AutoPx(suffix)
        self._activated: dict[str, EngineMagics] = {}

    # -- the magics ------------------------------------------------------------------------------

    @no_var_expand
    @takes(line_cell_magic, *GROUPS, *RUN, CODE)
    def px(self, line: str, cell: str | None = None) -> AsyncResult | None:
        """Run code on the engines: ``%px code`` or, in the first line of a cell, ``%%px``.

        Outputs are shown as they come, with the engine that wrote them.  The cell fails when a
        task failed.  Interrupting the cell interrupts the engines, and the cell fails.

        The first use starts engines on this machine, as many as CPUs, or joins your persistent
        cluster.

        Examples
        --------
        ::

          %px import numpy as np
          %px -a -o ar -t 0:2 simulate(rank)

          %%px --group-outputs order
          plt.plot(curve)
        """
        flags = parse(self.px, line)
        if cell is not None and flags.code:
            raise UsageError(
                f"%%px takes flags only, the code stands below: {flags.code!r} is no flag"
            )
        code = flags.code if cell is None else cell
        if not code.strip():
            raise UsageError("%px needs code to run: %px [flags] code")
        settings = self.settings.changed(flags, self._shell.user_ns)
        view = self._choose(settings, code)
        if settings.verbose:
            print(f"running on {view.targets}")
        above = 0 if cell is None or self._autopx.has_added else 1
        typed = view._typed = where_typed(self._shell, code, above)
        result: AsyncResult = view.execute(code, block=False)
        self.last_result = result
        if flags.out:
            self._shell.push({flags.out: result})
        above = typed.above if typed else 0
        here = partial(run_here, self._shell, code, above) if flags.local else lambda: None
        if not settings.block:
            if (failure := here()) is not None:
                raise failure
            return result
        stop = partial(stop_work, view.client, result, settings.signal_on_interrupt)
        failure = run_in_foreground(result, settings, stop, here)
        self._raise_both(result, failure)
        return None

    @takes(line_magic, *GROUPS, OUT, LIST)
    def pxresult(self, line: str) -> None:
        """Show the outputs of the last ``%px`` again, and raise its errors again.

        With ``-o NAME`` the result is put into a variable, and nothing is shown.
        If it still runs, wait for it; interrupting that leaves the engines alone.
        """
        flags = parse(self.pxresult, line)
        if flags.list:
            from ipyasyncresult.magics.listing import list_calls

            print(list_calls(self._client().db_query()))
            return
        result = self.last_result
        if result is None:
            raise UsageError("%pxresult: nothing ran through %px yet")
        if flags.out:
            self._shell.push({flags.out: result})
            return
        settings = replace(self.settings.changed(flags, {}), stream=False)
        run_in_foreground(result, settings, stop=lambda: None)
        result.get()

    @takes(line_magic, *GROUPS, *DEFAULTS)
    def pxconfig(self, line: str) -> None:
        """Change the defaults of ``%px``; without flags, print them."""
        flags = parse(self.pxconfig, line)
        self.settings = self.settings.changed(flags, self._shell.user_ns)
        if not line.strip():
            print(self.settings.describe())

    @line_magic
    def autopx(self, line: str) -> None:
        """Run every following cell on the engines, until ``%autopx`` comes again.

        Cells that start with ``%px`` and its family keep their meaning.
        """
        if line.strip():
            raise UsageError(f"%autopx takes no arguments, not {line.strip()!r}")
        transforms = self._shell.input_transformers_cleanup
        if self._autopx in transforms:
            transforms.remove(self._autopx)
            print("%autopx disabled")
        else:
            transforms.append(self._autopx)
            print("%autopx enabled")

    # -- engines ---------------------------------------------------------------------------------

    @property
    def _shell(self) -> Any:
        return self.shell

    def _client(self) -> AnyClient:
        """The client of the view, else the shared one; says so when it comes to one."""
        if self.view is not None and self.view.client.closed and not self.suffix:
            self.view = None  # its cluster has ended: plain %px starts over
        if self.view is not None:
            return self.view.client
        from ipyasyncresult.client.connect import default_client, has_default_client

        if has_default_client():
            return default_client()
        started: list[Cluster] = []

        def starting(cluster: Cluster) -> None:
            started.append(cluster)
            _say(f"starting {_engines(cluster.n)} on this machine (cluster {cluster.cluster_id})")

        client = default_client(starting)
        if not started:
            _say(f"joined your cluster {client.cluster_id} with {_engines(len(client))}")
        return client

    def _choose(self, settings: Settings, code: str) -> DirectView:
        """A view for this one call: the user's own is never changed."""
        client = self._client()
        targets = settings.targets
        if targets is None:
            targets = "all" if self.view is None else self.view.targets
        try:
            view = client.direct_view(targets)
        except (IndexError, TypeError, ValueError) as error:
            raise UsageError(f"-t/--targets: {error}") from None
        if view.targets == [] and client.ids:
            raise UsageError(
                f"-t/--targets: no engine is in {format_targets(targets)}; there are {client.ids}"
            )
        view.label = self.view.label if self.view is not None else None
        view.label = view.label or code.strip().partition("\n")[0][:_LABEL_LENGTH]
        return view

    def _raise_both(self, result: AsyncResult, failure: BaseException | None) -> None:
        """Raise what failed on the engines, and what failed here; with both, show one before."""
        if failure is not None:
            trace = failure.__traceback__
            try:
                raise failure  # noqa: TRY301  IPython shows a SyntaxError only while it is handled
            except BaseException:
                if result.successful():
                    raise
                self._shell.showtraceback((type(failure), failure, trace), tb_offset=0)
        _raise_remote(result)

    # -- under which names -----------------------------------------------------------------------

    def activate(self, view: DirectView, suffix: str = "") -> None:
        """Use the view for ``%px``; with a suffix, for ``%px{suffix}`` and its family.

        Raises
        ------
        ValueError
            When the suffix does not make a name.
        """
        if not suffix:
            self.view = view
            return
        if not f"px{suffix}".isidentifier():
            raise ValueError(f"suffix must be letters, digits or '_', not {suffix!r}")
        added = self._activated[suffix] = EngineMagics(
            self._shell, view, suffix, config=self.config
        )
        for kind, magics in added.magics.items():
            for name, magic in magics.items():
                self._shell.register_magic_function(magic, kind, name + suffix)

    def withdraw(self) -> None:
        """Take these magics from the shell, those with suffixes too."""
        for added in self._activated.values():
            added.withdraw()
        if self._autopx in (transforms := self._shell.input_transformers_cleanup):
            transforms.remove(self._autopx)
        table = self._shell.magics_manager.magics
        for kind, magics in self.magics.items():
            for name in magics:
                table[kind].pop(name + self.suffix, None)


def _raise_remote(result: AsyncResult) -> None:
    try:
        result.get()
    except (SyntaxError, BaseExceptionGroup) as raised:
        from ipyasyncresult.errors import RemoteError  # the extension loads without it

        if not isinstance(raised, RemoteError):
            raise
        error: RemoteError = raised
    else:
        return
    # Of one that is this, too, or has one as context, IPython would show its own frames and ours.
    context = {"engine_id": error.engine_id, "msg_id": error.msg_id, "label": error.label}
    raise RemoteError(error.failure, last_output=error.last_output, **context)


def _say(text: str) -> None:
    print(f"ipyasyncresult: {text}", flush=True)  # seen while engines start


def _engines(count: int) -> str:
    return f"{count} engine{'s' if count != 1 else ''}"
