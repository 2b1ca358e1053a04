"""What a backend can do: asked by errors, by the widget, and by who reads the table in the docs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OWN_ENGINES", "Capabilities"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be asked of a client.  What is False is refused with ``CapabilityError``.

    But for outputs: those that a backend does not have are not there, or come at the end.

    Attributes
    ----------
    backend : str
        Its name, as a person would say it: ``'own engines'``, ``'Dask'``.
    outputs : bool
        What tasks print is kept per task.
    rich_outputs : bool
        So is what they display.
    live_outputs : bool
        Outputs come while the task runs, not with its result.
    cells : bool
        ``%%px``: source text runs in a namespace that stays.
    addressed_engines : bool
        ``client[0]``: a task can be sent to an engine of one's choice.
    abort_queued : bool
        Tasks that have not started can be taken back.
    interrupt_running : bool
        KeyboardInterrupt can be raised in a running task.
    stored_results : bool
        Results can be had from another process, after this one has ended.
    retry : bool
        The work of failed tasks is kept and can be submitted again.
    time_limits : bool
        ``view.timeout``: a task that takes longer is ended.
    shared_memory : bool
        Tasks run in this very process: functions, arguments and results are the objects themselves,
        not copies.
    """

    backend: str
    outputs: bool = True
    rich_outputs: bool = True
    live_outputs: bool = True
    cells: bool = True
    addressed_engines: bool = True
    abort_queued: bool = True
    interrupt_running: bool = True
    stored_results: bool = True
    retry: bool = True
    time_limits: bool = True
    shared_memory: bool = False


OWN_ENGINES = Capabilities("own engines")
