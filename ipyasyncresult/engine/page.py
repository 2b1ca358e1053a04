"""A page of memory that an engine shares with the nursery: what it is at.

The engine writes it and the nursery reads it, also after the engine's death, and while C code holds
the engine's GIL.  It holds numbers of eight bytes, each written by one side only, so a look at one
is never half a value.
"""

from __future__ import annotations

import mmap

__all__ = ["BEGUN", "DEADLINE", "MEANT", "PAGE_BYTES", "RUNNING", "numbers_of", "task_number"]

BEGUN, RUNNING, MEANT, DEADLINE = range(4)
"""What stands where:

``BEGUN``
    how many tasks the engine ever began;
``RUNNING``
    which task it runs, 0 between tasks;
``MEANT``
    which task the next SIGINT is for (written by the nursery, taken by the engine); 0: for any;
``DEADLINE``
    monotonic nanoseconds after which the task is out of bounds, 0 for never.
"""

PAGE_BYTES = 32


def numbers_of(page: mmap.mmap) -> memoryview:
    """The numbers in the page, to read and to write."""
    return memoryview(page).cast("q")


def task_number(msg_id: str) -> int:
    """What stands for a task in the page; never 0.

    The nursery and its engines agree: a fork inherits the seed of ``hash``.
    """
    return hash(msg_id) or 1
