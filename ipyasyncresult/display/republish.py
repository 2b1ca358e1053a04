"""Blocks to where the user is: as displays and streams in a notebook, else as text."""

from __future__ import annotations

from collections.abc import Iterable

from ipyasyncresult.display.frontend import Outlet
from ipyasyncresult.display.grouping import Block, block_text

__all__ = ["in_a_display", "republish", "show"]


def republish(blocks: Iterable[Block], outlet: Outlet) -> None:
    """Show the blocks, in order.  Any thread that `outlet` is good for."""
    for block in blocks:
        show(block, outlet)
    outlet.flush()


def show(
    block: Block, outlet: Outlet, *, display_id: str | None = None, update: bool = False
) -> None:
    """Show one block.

    Parameters
    ----------
    block : Block
    outlet : Outlet
    display_id : str, optional
        Under which a display can be updated later; text outlets have no use for it.
    update : bool
        Put the display in the place of the one with this id.
    """
    if not block.data or not outlet.is_rich:
        outlet.stream("stderr" if block.kind == "stderr" else "stdout", block_text(block))
        return
    data = block.data
    if not block.is_rich:
        data = {"text/plain": block_text(block).removesuffix("\n")}
    elif not update:
        outlet.stream("stdout", f"{block.prefix}\n")
    outlet.display(data, block.metadata, display_id=display_id, update=update)


def in_a_display(prefix: str) -> str:
    """A prefix where a display stands in for a stream: pages give only the latter a red ground."""
    return f"\x1b[31m{prefix}\x1b[0m" if prefix.startswith("[stderr") else prefix
