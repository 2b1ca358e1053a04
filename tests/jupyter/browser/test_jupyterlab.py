"""What a user of JupyterLab sees, in a real browser.  Screenshots are left in ``artifacts/``."""

from __future__ import annotations

import re
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from ipyasyncresult.client.cluster import usable_cpus
from tests.conftest import eventually
from tests.jupyter.lab import Cell, Lab, Notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

ENGINES = range(usable_cpus())
QUICKSTART = Path(__file__).parents[3] / "notebooks" / "quickstart.ipynb"


def until(gate: Path) -> str:
    """Code of a task that waits until somebody makes this file."""
    return f"while not Path({str(gate)!r}).exists(): time.sleep(0.01)"


# ------------------------------------------------------------------------------------ quickstart


def test_the_quickstart_shows_what_it_promises(lab: Lab) -> None:
    shutil.copy(QUICKSTART, lab.root)
    with lab.notebook(QUICKSTART.name) as notebook:
        notebook.start_all()
        notebook.cell("client.shutdown").wait_for_end(100)
        notebook.screenshot("quickstart")
        said = notebook.cell("os.getpid()").text()
        assert all(f"[stdout:{engine}] I am process" in said for engine in ENGINES)
        # All first pictures, then all second ones.
        assert engines_of_figures(notebook.cell('groupby="order"')) == [*ENGINES, *ENGINES]
        assert re.search(r"tasks, .* wall, .*x on \d", notebook.cell("result.summary()").text())


def engines_of_figures(cell: Cell) -> list[int]:
    """The engines that the lines above the pictures name."""
    return [
        int(above.inner_text().rpartition("[output:")[2].rstrip("]\n"))
        for above, output in pairwise(cell.outputs.all())
        if output.locator("img").count()
        and output.locator("img").evaluate("img => img.decode().then(() => img.naturalWidth)")
    ]


# ------------------------------------------------------------------------------------- interrupt


def test_the_stop_button_stops_the_engines_the_cell_and_run_all(lab: Lab) -> None:
    cells = [
        "%load_ext ipyasyncresult\n%px import time",
        "%%px\nprint('begun')\ntime.sleep(600)",
        "print('never')",
    ]
    with lab.notebook("interrupt.ipynb", cells) as notebook:
        notebook.start_all()
        for engine in ENGINES:
            notebook[1].wait_for(f"[stdout:{engine}] begun")
        notebook.interrupt()
        notebook[1].wait_for_end(5)
        assert notebook[1].text().splitlines()[-1].startswith("KeyboardInterrupt")
        assert "foreground.py" not in notebook[1].text()
        after = notebook.run("%px print('free')")
        assert sorted(after.text().splitlines()) == [f"[stdout:{e}] free" for e in ENGINES]
        assert (notebook[2].prompt, notebook[2].text()) == ("[ ]:", "")
        notebook.screenshot("interrupt")


# -------------------------------------------------------------------------------------- outputs


def test_output_is_followed_live(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notebook.run(f"%%px -a -o followed\nprint('first')\n{until(gate)}\nprint('second')")
    following = notebook.add("with followed.stream_output():\n    followed.wait()")
    following.start()
    for engine in ENGINES:
        following.wait_for(f"[stdout:{engine}] first")
    assert following.prompt == "[*]:"
    assert "second" not in following.text()
    gate.touch()
    following.wait_for_end()
    assert sorted(following.text().splitlines()) == sorted(
        f"[stdout:{engine}] {word}" for engine in ENGINES for word in ("first", "second")
    )


def test_output_goes_under_the_cell_that_asked_while_another_runs(
    notebook: Notebook, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    notebook.run(f"%%px -a -t 0 -o late\n{until(gate)}\nprint('late')\ndisplay('shown')")
    asking = notebook.run(
        "streaming = contextlib.ExitStack()\n"
        "streaming.enter_context(late.stream_output())\n"
        "print('asked')"
    )
    other = notebook.run(f"Path({str(gate)!r}).touch()\nlate.wait()\nprint('mine')")
    asking.wait_for("[output:0] 'shown'")
    assert asking.text().splitlines() == ["asked", "[stdout:0] late", "[output:0] 'shown'"]
    assert other.text() == "mine"
    notebook.run("streaming.close()")


def test_streams_look_like_streams(notebook: Notebook) -> None:
    cell = notebook.run(
        "%%px -t 0\n"
        r"print('\x1b[31mred\x1b[0m plain')"
        "\nprint('problem', file=sys.stderr)\nprint('a\\nb')"
    )
    cell.screenshot("streams")
    assert cell.outputs.locator(".ansi-red-fg").all_inner_texts() == ["red"]
    stderr = "[data-mime-type='application/vnd.jupyter.stderr']"
    assert cell.outputs.and_(notebook.page.locator(stderr)).all_inner_texts() == [
        "[stderr:0] problem\n"
    ]
    assert cell.text().splitlines() == [
        "[stdout:0] red plain",
        "[stderr:0] problem",
        "[stdout:0] a",
        "[stdout:0] b",
    ]


def test_bars_of_tasks_are_redrawn_in_place(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cell = notebook.add(
        "%%px\nfrom tqdm import tqdm\n"
        "bar = tqdm(total=10, desc='fit')\nbar.update(5); bar.refresh()\n"
        f"{until(gate)}\nbar.update(5); bar.close()"
    )
    cell.start()
    for engine in ENGINES:
        cell.wait_for(re.compile(rf"\[stderr:{engine}\] fit: +50%.* 5/10 "))
    gate.touch()
    cell.wait_for_end()
    cell.screenshot("bars")
    lines = sorted(cell.text().splitlines())
    assert len(lines) == len(ENGINES)
    for engine, line in zip(ENGINES, lines, strict=True):
        assert re.match(rf"\[stderr:{engine}\] fit: 100%.* 10/10 ", line)


DRAWS = """%%px -t 0 -a -o drawn
from IPython.display import HTML, clear_output, display
from tqdm import tqdm
below = display(HTML("<b>step 0</b>"), display_id=True)
until("gate0")
below.update(HTML("<b>step 1</b>"))
until("gate1")
for frame in range(3):
    clear_output(wait=True)
    print("frame", frame)
    display(HTML(f"<i>picture {frame}</i>"))
    until(f"gate{2 + frame}")
print("\\x1b[31mhot\\x1b[0m", file=sys.stderr)
bar = tqdm(total=10, desc="fit")
bar.update(5); bar.refresh()
until("gate5")
bar.update(5); bar.close()
print("10%\\r100%")
"""


def test_updates_and_clears_work_live_in_replay_and_ever_after(lab: Lab, tmp_path: Path) -> None:
    helper = (
        "%%px\nimport sys, time\nfrom pathlib import Path\ndef until(name):\n"
        f"    while not Path({str(tmp_path)!r}, name).exists(): time.sleep(0.01)"
    )
    cells = ["%load_ext ipyasyncresult", helper, DRAWS]
    follow = "with drawn.stream_output():\n    drawn.wait()"
    with lab.notebook("draws.ipynb", [*cells, follow, "drawn.display_outputs()"]) as notebook:
        notebook.start_all()
        live, replay = notebook[3], notebook[4]
        screens = [["[output:0]", f"step {number}"] for number in range(2)]
        screens += [[f"frame {n}", "[output:0]", f"picture {n}"] for n in range(3)]
        for number, screen in enumerate(screens):
            # Each took the place of the one before.
            assert eventually(partial(shows, live, screen), 20), live.text()
            (tmp_path / f"gate{number}").touch()
        live.wait_for(re.compile(r"\[stderr:0\]\s+hot\s+fit: +50%.* 5/10 "))
        (tmp_path / "gate5").touch()
        replay.wait_for_end()
        for cell in (live, replay):
            assert eventually(partial(shows_the_last, cell), 20), cell.text()
        live.screenshot("draws-live")
        replay.screenshot("draws-replay")
        notebook.saved()
    with lab.notebook("draws.ipynb") as reopened:
        for cell in (reopened[3], reopened[4]):
            assert eventually(partial(shows_the_last, cell), 20), cell.text()


def shows(cell: Cell, screen: list[str]) -> bool:
    """Whether this is all that is to be seen of the steps, from top to bottom."""
    return re.findall(r"step \d|frame \d|picture \d|\[output:0\]", cell.text()) == screen


def shows_the_last(cell: Cell) -> bool:
    """Whether there is what the task left, and nothing of what it took away."""
    lines = [line for line in cell.text().splitlines() if line]
    said = [line for line in lines if re.search("step|frame|picture|hot|fit|100%|10%", line)]
    return (
        sorted(re.sub(r"^\[.*?\] ", "", line)[:9] for line in said)
        == ["100%", "fit: 100%", "frame 2", "hot", "picture 2"]
        and "hot" in cell.outputs.locator(".ansi-red-fg").all_inner_texts()
        and cell.outputs.locator("i").all_inner_texts() == ["picture 2"]
    )


def test_an_error_shows_the_users_line_and_none_of_ours(lab: Lab, notebook: Notebook) -> None:
    cell = notebook.run("%%px\ndef invert(x):\n    return 1 / x\n\ninvert(0)")
    cell.screenshot("error")
    with lab.dark():
        cell.screenshot("error-dark")
    text = cell.text()
    assert f"{len(ENGINES)} x ZeroDivisionError: division by zero" in text
    assert "----> 3     return 1 / x" in text  # of the notebook's cell
    highlighted = cell.outputs.locator("[class*='ansi-yellow-bg']").all_inner_texts()
    assert "1 / x" in "".join(highlighted)
    assert "ipyasyncresult" not in text
