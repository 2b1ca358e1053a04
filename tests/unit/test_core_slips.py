"""Names that nobody knows."""

from __future__ import annotations

import pytest

from ipyasyncresult.client.cluster import Cluster
from ipyasyncresult.client.loadbalanced import LoadBalancedView
from ipyasyncresult.core.slips import refuse_unknown
from ipyasyncresult.testing import FakeClient


def test_what_is_known_passes() -> None:
    refuse_unknown("map", "option", {"label": "x"}, ["label", "ordered"])


@pytest.mark.parametrize(
    ("given", "meant"), [("chunk_size", "chunksize"), ("N", "n"), ("presist", "persist")]
)
def test_a_near_miss_names_what_may_have_been_meant(given: str, meant: str) -> None:
    known = ["chunksize", "n", "persist", "label"]
    with pytest.raises(TypeError, match=f"has no option '{given}'; did you mean '{meant}'?"):
        refuse_unknown("map", "option", {given: 1}, known)


def test_without_one_all_names_are_said() -> None:
    with pytest.raises(AttributeError, match=r"a view has no flag 'zzz'; it has block, label$"):
        refuse_unknown("a view", "flag", ["zzz"], ["label", "block"], AttributeError)


def test_slips_in_options_are_named_where_they_are_given() -> None:
    with pytest.raises(TypeError, match="Cluster has no option 'presist'; did you mean 'persist'"):
        Cluster(presist=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="map has no option 'chunk_size'; did you mean 'chunksize'"):
        LoadBalancedView(FakeClient()).map_async(abs, [1], chunk_size=3)  # type: ignore[arg-type]
