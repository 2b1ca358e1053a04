"""``%px`` and its family: cells that run on engines.

::

    __init__       load, unload, activate               what IPython and views call
    enginemagics   %px %%px %pxresult %pxconfig %autopx one object per shell and suffix
    arguments      the line after the magic             ──▶ flags and code
    targets        what is given to -t, without eval    ──▶ engine ids
    settings       flags and defaults                   ──▶ what one cell is run with
    foreground     wait, show, raise; the stop button
    local          --local: the cell in this process
    autopx         every cell becomes a %%px cell
    listing        %pxresult --list

One shell has one :class:`~ipyasyncresult.magics.enginemagics.EngineMagics` (and one more for each
suffix that a view was activated with).  It remembers its defaults and the last result, nothing
else.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

from traitlets.config import Config

from ipyasyncresult.client.activation import activate
from ipyasyncresult.config import ClusterOptions, DisplayOptions, options, read_config_files
from ipyasyncresult.magics.enginemagics import EngineMagics

__all__ = ["activate", "load", "unload"]

_SHOWN = (ClusterOptions, DisplayOptions)


def load(ipython: Any) -> None:
    """Make the magics known to a shell.  Starts nothing: engines start with the first cell.

    Options come from ``ipyasyncresult_config.py`` and, before it, from IPython's own files.
    """
    try:
        files = read_config_files()
    except ValueError as error:  # a ConfigurationError: to import it takes a third of all this
        warnings.warn(f"ipyasyncresult uses its defaults: {error}", stacklevel=2)
        files = Config()
    config = deepcopy(files)
    config.merge(ipython.config)
    ipython.register_magics(EngineMagics(ipython, config=config))
    for kind in _SHOWN:  # for %config
        shared = options(kind, files)
        shared.update_config(ipython.config)
        if shared not in ipython.configurables:
            ipython.configurables.append(shared)


def unload(ipython: Any) -> None:
    """Take the magics back; ``%autopx`` ends."""
    loaded: EngineMagics | None = ipython.magics_manager.registry.pop(EngineMagics.__name__, None)
    if loaded is not None:
        loaded.withdraw()
    ours = (EngineMagics, *_SHOWN)
    ipython.configurables[:] = [one for one in ipython.configurables if not isinstance(one, ours)]
