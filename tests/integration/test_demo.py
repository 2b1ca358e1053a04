"""``make demo`` shows what the README says it shows."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_measures_shows_and_sums_up() -> None:
    demo = [sys.executable, "-m", "ipyasyncresult.demo", "2"]
    ended = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = ended.stdout
    assert "(modules)" in shown
    assert "broken_on_purpose.py" in shown
    first, second = (shown.index(prefix) for prefix in ("[stdout:0]", "[stdout:1]"))
    assert first < second
    # Collated: the first pictures of both engines, then the second ones.
    pictures = [line for line in shown.splitlines() if line.startswith("[output:")]
    assert [line[:10] for line in pictures] == ["[output:0]", "[output:1]"] * 2
    assert "on 2 engines" in shown
