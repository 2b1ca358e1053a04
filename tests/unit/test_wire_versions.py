"""Who may talk to whom."""

from __future__ import annotations

import sys

import pytest

from ipyasyncresult._version import __version__
from ipyasyncresult.wire.messages import PROTOCOL, Hello, Register
from ipyasyncresult.wire.versions import python_version, refusal

OTHER_PYTHON = f"3.{sys.version_info.minor + 1}"


def both(protocol: int, package: str, python: str) -> list[Hello | Register]:
    return [
        Hello("session", protocol, package, python, 1),
        Register(0, "uuid", 1, protocol, package, python),
    ]


def test_the_same_versions_fit() -> None:
    for other in both(PROTOCOL, __version__, python_version()):
        assert refusal(other) is None


def test_another_patch_of_the_package_fits() -> None:
    feature = ".".join(__version__.split(".")[:2])
    for other in both(PROTOCOL, f"{feature}.999", python_version()):
        assert refusal(other) is None


@pytest.mark.parametrize(
    ("protocol", "package", "python", "reason"),
    [
        (
            PROTOCOL + 1,
            __version__,
            python_version(),
            f"speaks protocol {PROTOCOL} .* {PROTOCOL + 1}",
        ),
        (PROTOCOL, __version__, OTHER_PYTHON, f"the other side Python {OTHER_PYTHON}"),
        (PROTOCOL, "99.0", python_version(), "the other side 99.0: install the same version"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_versions(
    protocol: int, package: str, python: str, reason: str
) -> None:
    for other in both(protocol, package, python):
        with pytest.raises(ValueError, match=reason):
            raise ValueError(refusal(other))


def test_force_accepts_other_versions_but_never_another_protocol() -> None:
    for other in both(PROTOCOL, "99.0", OTHER_PYTHON):
        assert refusal(other, force=True) is None
    for other in both(PROTOCOL + 1, __version__, python_version()):
        assert refusal(other, force=True) is not None
