"""Which outputs are shown, and in which order: task outputs in, blocks out.  Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import msgspec

from ipyasyncresult.core.outputs import Output, apply_carriage_returns, visible
from ipyasyncresult.core.presenter import STREAMS, OutputQuery
from ipyasyncresult.core.task import FINAL, Status, TaskOutputs

__all__ = [
    "Block",
    "block_text",
    "display_block",
    "group",
    "in_time_order",
    "output_text",
    "prefix_of",
]

BlockKind = Literal["stdout", "stderr", "display_data", "execute_result", "heading"]
Keep: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Block:
    """Something to show in one piece.

    Attributes
    ----------
    prefix : str
        Where it comes from: ``[stdout:1]``, ``[output:2]``, ``Out[2:5]:``; empty for headings.
    kind : str
    engine_id : int or None
    text : str
        The text of a stream or heading, or the ``text/plain`` of a display.
    data, metadata : dict
        The MIME bundle of a display; empty for text.
    """

    prefix: str
    kind: BlockKind
    engine_id: int | None
    text: str
    data: dict[str, Any]
    metadata: dict[str, Any]

    @property
    def is_rich(self) -> bool:
        """Whether there is more to see than text."""
        return any(mime != "text/plain" for mime in self.data)


def group(tasks: Iterable[TaskOutputs], query: OutputQuery) -> list[Block]:
    """The blocks that `query` asks for, in its order.

    Streams are as a terminal would show them at the end (``\\r`` applied), displays as a viewer
    would still see them (updates and ``clear_output`` applied).
    """
    tasks = list(tasks)
    keep = _matches(query.grep)
    chosen = [
        replace(task, outputs=visible(task.outputs))
        for task in tasks
        if task.outputs and _is_asked_for(task, query)
    ]
    if query.result_only:
        chosen = [replace(task, outputs=_of_kind(task, "execute_result")) for task in chosen]
    match query.groupby:
        case "type":
            blocks = _by_type(chosen, keep, _one_after_the_other)
        case "order":
            blocks = _by_type(chosen, keep, _collated)
        case "engine":
            blocks = _by_engine(chosen, keep)
        case "time":
            blocks = _by_time(chosen, keep)
        case _:
            blocks = _by_task(chosen, keep, headings=len(tasks) > 1)
    return list(blocks)


# ------------------------------------------------------------------------------------- which ones


def _is_asked_for(task: TaskOutputs, query: OutputQuery) -> bool:
    if query.only == "failed" and (task.status is Status.DONE or task.status not in FINAL):
        return False
    return query.engine is None or task.engine_id in query.engine


def _matches(pattern: str | None) -> Keep:
    if pattern is None:
        return lambda _: True
    search = re.compile(pattern).search
    return lambda text: search(text) is not None


def _of_kind(task: TaskOutputs, kind: str) -> list[Output]:
    return [output for output in task.outputs if output.kind == kind]


# ------------------------------------------------------------------------------------ the orders


def _by_type(
    tasks: list[TaskOutputs],
    keep: Keep,
    arrange: Callable[[list[list[Block]]], Iterable[Block]],
) -> Iterator[Block]:
    engines = _engines(tasks)
    yield from _streams(tasks, keep)
    yield from arrange([_displays(ran, "display_data", keep) for ran in engines])
    for ran in engines:
        yield from _displays(ran, "execute_result", keep)


def _one_after_the_other(per_engine: list[list[Block]]) -> Iterable[Block]:
    return itertools.chain.from_iterable(per_engine)


def _collated(per_engine: list[list[Block]]) -> Iterable[Block]:
    """The first of every engine, then the second of those that have one, ..."""
    rounds = itertools.zip_longest(*per_engine)
    return (block for one_round in rounds for block in one_round if block is not None)


def _by_engine(tasks: list[TaskOutputs], keep: Keep) -> Iterator[Block]:
    for ran in _engines(tasks):
        yield from _streams(ran, keep)
        yield from _displays(ran, "display_data", keep)
        yield from _displays(ran, "execute_result", keep)


def _by_time(tasks: list[TaskOutputs], keep: Keep) -> Iterator[Block]:
    lines = [_cut_at_lines(task.outputs) for task in tasks]
    moments = [(tasks[index], output) for index, output in in_time_order(lines)]
    return _joined(moments, keep)


def _by_task(tasks: list[TaskOutputs], keep: Keep, *, headings: bool) -> Iterator[Block]:
    for task in tasks:
        blocks = list(_joined(((task, output) for output in task.outputs), keep))
        if blocks and headings:
            yield Block("", "heading", task.engine_id, _heading(task), {}, {})
        yield from blocks


def _heading(task: TaskOutputs) -> str:
    name = f"task {task.index}" + (f" ({task.label})" if task.label else "")
    where = f" on engine {task.engine_id}" if task.engine_id is not None else ""
    state = f": {task.status.value}" if task.status is not Status.DONE else ""
    return f"{name}{where}{state}"


def _engines(tasks: Iterable[TaskOutputs]) -> list[list[TaskOutputs]]:
    """The tasks of each engine; what ran nowhere comes last."""
    ran: dict[int | None, list[TaskOutputs]] = {}
    for task in tasks:
        ran.setdefault(task.engine_id, []).append(task)
    return [ran[engine] for engine in sorted(ran, key=lambda e: (e is None, e or 0))]


def in_time_order(sequences: Sequence[Sequence[Output]]) -> list[tuple[int, Output]]:
    """All outputs by time, each with the position of its sequence; within one its order stays."""
    moments = []
    for index, outputs in enumerate(sequences):
        latest = float("-inf")
        for output in outputs:
            latest = max(latest, output.time)  # a clock that was set back changes no order
            moments.append((latest, index, output))
    moments.sort(key=lambda moment: moment[0])
    return [(index, output) for _, index, output in moments]


def _cut_at_lines(outputs: Sequence[Output]) -> list[Output]:
    """The same text in pieces that end with a line: a line waits for the rest of itself.

    So nobody else's output gets into the middle of a line that came in two pieces.
    """
    pieces = []
    held: list[str] = []
    for output, following in itertools.zip_longest(outputs, outputs[1:]):
        if output.kind not in STREAMS:
            pieces.append(output)
            continue
        goes_on = following is not None and following.kind == output.kind
        end = output.text.rfind("\n") + 1 if goes_on else len(output.text)
        if end or not goes_on:
            text = "".join([*held, output.text[:end]])
            pieces.append(msgspec.structs.replace(output, text=text))
            held = []
        held.append(output.text[end:])
    return pieces


# ------------------------------------------------------------------------------------- the blocks


def _streams(tasks: list[TaskOutputs], keep: Keep) -> Iterator[Block]:
    for kind in STREAMS:
        for task in tasks:
            text = "".join([output.text for output in _of_kind(task, kind)])
            yield from _stream_block(task, kind, text, keep)


def _displays(tasks: list[TaskOutputs], kind: str, keep: Keep) -> list[Block]:
    blocks = (display_block(o, task.engine_id) for task in tasks for o in _of_kind(task, kind))
    return [block for block in blocks if keep(block.text)]


def _joined(moments: Iterable[tuple[TaskOutputs, Output]], keep: Keep) -> Iterator[Block]:
    """Blocks in the given order; neighbouring text of one task's stream is one block."""
    for (_, kind), several in itertools.groupby(moments, key=lambda m: (m[0].index, m[1].kind)):
        run = list(several)
        task = run[0][0]
        if kind == "stdout" or kind == "stderr":
            text = "".join([output.text for _, output in run])
            yield from _stream_block(task, kind, text, keep)
        else:
            blocks = (display_block(output, task.engine_id) for _, output in run)
            yield from (block for block in blocks if keep(block.text))


def _stream_block(
    task: TaskOutputs, kind: Literal["stdout", "stderr"], text: str, keep: Keep
) -> Iterator[Block]:
    """One block, or none where no text is left."""
    shown = apply_carriage_returns(text)
    if not shown:
        return
    end = "\n" if shown.endswith("\n") else ""
    lines = [line for line in shown.removesuffix("\n").split("\n") if keep(line)]
    if lines:
        text = "\n".join(lines) + end
        yield Block(prefix_of(kind, task.engine_id), kind, task.engine_id, text, {}, {})


def display_block(output: Output, engine_id: int | None) -> Block:
    """The block of a display or of an ``Out[n]``."""
    kind: BlockKind = "execute_result" if output.kind == "execute_result" else "display_data"
    data = output.data or {}
    text = data.get("text/plain")
    if not isinstance(text, str):
        text = f"<{', '.join(sorted(data))}>" if data else ""
    prefix = prefix_of(kind, engine_id, output.execution_count)
    return Block(prefix, kind, engine_id, text, data, output.metadata or {})


def prefix_of(kind: BlockKind, engine_id: int | None, execution_count: int | None = None) -> str:
    """``[stdout:1]``, ``[output:1]`` or ``Out[1:5]:``; the engine is ``-`` where none is known."""
    engine = "-" if engine_id is None else str(engine_id)
    if kind == "execute_result":
        number = "" if execution_count is None else f":{execution_count}"
        return f"Out[{engine}{number}]:"
    return f"[{'output' if kind == 'display_data' else kind}:{engine}]"


def block_text(block: Block) -> str:
    """The block as text: its prefix before one line, or on a line of its own before more.

    Ends with a newline.
    """
    return output_text(block.prefix, block.text)


def output_text(prefix: str, text: str) -> str:
    """A prefix before one line of text, or on a line of its own before more."""
    text = text.removesuffix("\n")
    if not prefix or not text:
        return f"{prefix}{text}\n"
    between = "\n" if "\n" in text else " "
    return f"{prefix}{between}{text}\n"
