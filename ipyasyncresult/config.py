"""Options that a person may set, in one place: what there is, and where it is read from.

Three ways, later ones win: ``ipyasyncresult_config.py`` (or ``.json``) in one of Jupyter's
configuration folders, the command line (``ipyasyncresult start --ClusterOptions.n=4``), and the
program itself (``%config DisplayOptions.progress = False``, arguments of ``Cluster``).

Each part asks here for its own options when it needs them first.  The core asks nothing.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any, TypeVar

from jupyter_core.paths import jupyter_config_path
from traitlets import Bool, Enum, Float, Integer, TraitError, Unicode
from traitlets.config import Config, SingletonConfigurable
from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader

__all__ = [
    "FILE_NAME",
    "ClusterOptions",
    "DisplayOptions",
    "configurable_classes",
    "options",
    "read_config_files",
]

FILE_NAME = "ipyasyncresult_config"
"""With ``.py`` or ``.json``, in any folder of ``jupyter --paths``."""

_lock = threading.RLock()


T = TypeVar("T", bound=SingletonConfigurable)


class ClusterOptions(SingletonConfigurable):
    """Engines on this machine: what a new cluster is made with unless its call says otherwise."""

    n = Integer(
        None,
        allow_none=True,
        min=0,
        help="How many engines; by default as many as CPUs that the process may use.",
    ).tag(config=True)
    output_limit = Integer(
        1_000_000,
        min=1000,
        help="Characters of printed text that are kept per task: its start and its end.",
    ).tag(config=True)
    result_limit = Integer(
        1 << 31,
        min=1,
        help="Bytes of one result; a task that returns more fails with ResultTooLarge.",
    ).tag(config=True)
    restart_limit = Integer(
        5,
        min=0,
        help="After so many deaths per engine within a minute no more engines are started.",
    ).tag(config=True)

    idle = Float(
        None,
        allow_none=True,
        min=0.0,
        help="Seconds without a client and without work after which a cluster stops itself.",
    ).tag(config=True)
    durability = Enum(
        ["store", "memory"],
        None,
        allow_none=True,
        help="'store': tasks and results are on disk, too; 'memory': they are not.  By default "
        "clusters that outlive their client have a store.",
    ).tag(config=True)
    keep_bytes = Integer(
        1 << 30,
        min=1,
        help="Bytes of results that clients have got already; the oldest are dropped above it.",
    ).tag(config=True)
    keep_days = Float(
        30.0,
        min=0.0,
        help="Days after which results that clients have got already are dropped.",
    ).tag(config=True)
    store_max_bytes = Integer(
        None,
        allow_none=True,
        min=1,
        help="The files of the store take no more; what does not fit is in memory only until there "
        "is room.",
    ).tag(config=True)

    arrays_limit = Integer(
        None,
        allow_none=True,
        min=0,
        help="Bytes of shared memory for large arrays; by default half of what /dev/shm holds. "
        "What does not fit in, and with 0 everything, travels through the sockets.",
    ).tag(config=True)
    transport = Enum(
        ["ipc", "tcp"],
        "ipc",
        help="'ipc': Unix sockets that only this user reaches; 'tcp': ports, encrypted, with keys "
        "that only this user can read.",
    ).tag(config=True)
    interface = Unicode(
        "127.0.0.1",
        help="The address whose ports are used with transport='tcp'.",
    ).tag(config=True)

    def changed(self) -> dict[str, Any]:
        """What is not as it is by default, by name."""
        traits = self.class_own_traits(config=True)
        values = {name: getattr(self, name) for name in traits}
        return {n: value for n, value in values.items() if value != traits[n].default_value}


class DisplayOptions(SingletonConfigurable):
    """What is shown while work runs."""

    progress = Bool(
        True,
        help="Show progress: a widget in a notebook, a bar in a terminal.  False: wait in silence. "
        "The environment variable IPYASYNCRESULT_PROGRESS=0 does the same.",
    ).tag(config=True)
    widgets = Bool(
        None,
        allow_none=True,
        help="Widgets in a notebook: None where ipywidgets is installed, True always, False never "
        "(text that is rewritten instead).",
    ).tag(config=True)


class ServerOptions(SingletonConfigurable):
    """The page and the routes in Jupyter's server."""

    read_only = Bool(
        False,
        help="Show clusters, but neither start nor stop them, nor interrupt their tasks.",
    ).tag(config=True)
    most_engines = Integer(
        256,
        min=0,
        help="As many engines as one cluster that is started from the page may have.",
    ).tag(config=True)
    most_readers = Integer(
        50,
        min=1,
        help="How many pages may read events at once.",
    ).tag(config=True)


def configurable_classes() -> list[type[SingletonConfigurable]]:
    """All kinds of options."""
    return [ClusterOptions, DisplayOptions, ServerOptions]


def options(kind: type[T], files: Config | None = None) -> T:
    """The options of one kind in this process; the files are read at the first call.  Any thread.

    A file that cannot be read is a warning: whoever waits for a result must not fail for it.

    Parameters
    ----------
    kind : type
    files : Config, optional
        What the files say, where the caller has read them.
    """
    with _lock:
        if not kind.initialized():
            try:
                return kind.instance(config=read_config_files() if files is None else files)
            except (ValueError, TraitError) as error:  # the former is a ConfigurationError
                warnings.warn(f"ipyasyncresult uses its defaults: {error}", stacklevel=2)
        return kind.instance()


def read_config_files() -> Config:
    """What the configuration files say; those nearer to the user win.

    Raises
    ------
    ConfigurationError
        When one cannot be read, whatever it raised; the message names it.
    """
    config = Config()
    for folder in reversed(jupyter_config_path()):
        for loader in (
            PyFileConfigLoader(f"{FILE_NAME}.py", path=folder),
            JSONFileConfigLoader(f"{FILE_NAME}.json", path=folder),
        ):
            try:
                config.merge(loader.load_config())
            except ConfigFileNotFound:
                continue
            except Exception as error:
                from ipyasyncresult.errors import ConfigurationError

                raise ConfigurationError(
                    f"{folder}/{loader.filename}: {type(error).__name__}: {error}"
                ) from error
    return config
