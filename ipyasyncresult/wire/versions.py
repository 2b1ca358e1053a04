"""Do the two sides of a connection fit together?"""

from __future__ import annotations

import sys

from ipyasyncresult._version import __version__
from ipyasyncresult.wire.messages import PROTOCOL, Hello, Register

__all__ = ["python_version", "refusal"]


def python_version() -> str:
    """``'3.12'``: pickles of functions are good within one minor version only."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def refusal(other: Hello | Register, *, force: bool = False) -> str | None:
    """Why the other side does not fit to this one, or None when it does.

    Parameters
    ----------
    other : Hello or Register
    force : bool
        Accept different versions of Python and of the package; never of the protocol.
    """
    if other.protocol != PROTOCOL:
        return (
            f"the hub speaks protocol {PROTOCOL} (ipyasyncresult {__version__}), "
            f"the other side {other.protocol} (ipyasyncresult {other.package}): "
            "install the same version on both sides"
        )
    if force:
        return None
    if other.python != python_version():
        return (
            f"the cluster runs Python {python_version()}, the other side Python {other.python}: "
            "functions cannot travel between them; start the cluster with the same Python"
        )
    if _feature_version(other.package) != _feature_version(__version__):
        return (
            f"the cluster runs ipyasyncresult {__version__}, the other side {other.package}: "
            "install the same version on both sides"
        )
    return None


def _feature_version(version: str) -> str:
    return ".".join(version.split(".")[:2])
