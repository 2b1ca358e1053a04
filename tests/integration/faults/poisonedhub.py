"""A hub in which everything that unpickles ends the process; engines, forked from it, are well.

Found by ``python -m`` through ``PYTHONPATH``.  That the module is there cannot be helped: pyzmq
imports it.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, NoReturn

from ipyasyncresult.hub.__main__ import main


def refuse(*_: Any, **__: Any) -> NoReturn:
    sys.stderr.write("the hub unpickles\n")
    sys.stderr.flush()
    os._exit(66)


if __name__ == "__main__":
    names = ("load", "loads", "Unpickler", "_load", "_loads", "_Unpickler")
    sound = {name: getattr(pickle, name) for name in names}
    os.register_at_fork(after_in_child=lambda: vars(pickle).update(sound))
    vars(pickle).update(dict.fromkeys(names, refuse))
    main()
