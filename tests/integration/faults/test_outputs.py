"""Output that is too much, or that could come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.conftest import hub_of
from tests.integration.faults.conftest import SOON

if TYPE_CHECKING:
    from tests.integration.faults.conftest import Mortal


@pytest.mark.slow
def test_a_flood_of_lines_leaves_hub_and_client_as_they_were(mortal: Mortal) -> None:
    """40 MB of text through each; of 1,000,000 characters both keep the beginning and the end."""

    def flood(lines: int) -> int:
        for n in range(lines):
            print(f"line {n} {'x' * 60}")
        return lines

    watched = [psutil.Process(), hub_of(mortal.client)]
    mortal.client[0].apply_async(flood, 20_000).get(SOON)
    before = [process.memory_info().rss for process in watched]
    result = mortal.client[0].apply_async(flood, 600_000)
    assert result.get(2 * SOON) == 600_000
    for process, memory in zip(watched, before, strict=True):
        assert process.memory_info().rss - memory < 25e6
    assert len(result.stdout) < 1_100_000
    assert result.stdout.startswith("line 0 x")
    assert result.stdout.rstrip().endswith("x" * 60)
    assert "dropped" in result.stdout


def test_when_a_result_is_there_so_is_all_that_it_printed(mortal: Mortal) -> None:
    def talk(n: int) -> int:
        print("first", n)
        print("last", n)
        return n

    view = mortal.client.load_balanced_view()
    for n in range(300):
        result = view.apply_async(talk, n)
        result.get(SOON)
        assert result.stdout == f"first {n}\nlast {n}\n"
