"""What a user of JupyterLab sees, in a real browser.  Screenshots are left in ``artifacts/``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from ipyasyncresult.client.cluster import usable_cpus
from tests.jupyter.lab import Cell, Lab, Notebook, browser_of, lab_page, lab_server

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]

ENGINES = range(usable_cpus())
QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


# For this module only: as long as Playwright runs, this thread has a running event loop, which
# tests with kernels cannot bear.
@pytest.fixture(scope="module")
def lab(runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("lab")
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        if browser is None:
            assert not os.environ.get("CI"), "no browser is installed, and CI needs one"
            pytest.skip("no browser is installed (make test installs one where it may)")
        with lab_server(root, home) as address, lab_page(playwright, browser, address) as page:
            yield Lab(page, root)


@pytest.fixture(scope="module")
def notebook(lab: Lab) -> Iterator[Notebook]:
    """A notebook whose engines are up; tests add cells."""
    with lab.notebook("shared.ipynb", ["%load_ext ipyasyncresult"]) as opened:
        opened[0].start()
        opened.run("%%px\nimport sys, time\nfrom pathlib import Path")
        opened.run("import contextlib, ipyasyncresult\nfrom pathlib import Path")
        yield opened


@pytest.fixture(autouse=True)
def no_page_errors(lab: Lab) -> Iterator[None]:
    lab.page_errors.clear()
    yield
    assert lab.page_errors == []


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


# -------------------------------------------------------------------------------------- progress


STEPS = """
import time
import ipyasyncresult
from pathlib import Path

def step(gate):
    while not gate.exists():
        time.sleep(0.01)
    if gate.name == "gate1":
        raise ValueError("this one is <b>bad</b>")

gates = [Path({folder!r}) / f"gate{{n}}" for n in range(4)]
view = ipyasyncresult.connect(n=2).load_balanced_view()
result = view.map_async(step, gates, chunksize=1)
"""


def test_progress_is_live_while_the_cell_blocks_and_static_ever_after(
    lab: Lab, tmp_path: Path
) -> None:
    cells = [STEPS.format(folder=str(tmp_path)), "result.wait_interactive(interval=0.1)", "result"]
    with lab.notebook("progress.ipynb", cells) as notebook:
        notebook[0].start()
        waiting, shown = notebook[1], notebook[2]
        waiting.start()
        for done in (1, 2, 3):
            (tmp_path / f"gate{done - 1}").touch()
            waiting.wait_for(f"step: {done}/4")
            bar = waiting.outputs.locator(f".jupyter-widgets [style*='width: {25 * done}%']")
            bar.first.wait_for()
            assert waiting.prompt == "[*]:"
        assert "1 failed" in waiting.text()
        waiting.screenshot("progress")
        with lab.dark():
            waiting.screenshot("progress-dark")

        (tmp_path / "gate3").touch()
        waiting.wait_for_end()
        shown.start()
        shown.wait_for_end()
        assert_shows_the_end(waiting)
        assert waiting.text() == shown.text()
        shown.screenshot("result")
        with lab.dark():
            shown.screenshot("result-dark")

        saved = notebook.saved()
        assert [set(output.data) for output in saved.cells[1].outputs] == [
            {"text/plain", "text/html"}
        ]
        assert "widgets" not in saved.metadata

    with lab.notebook("progress.ipynb") as reopened:
        assert_shows_the_end(reopened[1])


def assert_shows_the_end(cell: Cell) -> None:
    first, *failures = cell.text().splitlines()
    assert re.fullmatch(r"step: 4/4 done in .* s, 1 failed", first)
    assert failures == ["task 1: ValueError: this one is <b>bad</b>"]
    assert cell.outputs.locator(".jupyter-widgets").count() == 0


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


def test_an_error_shows_the_users_line_and_none_of_ours(lab: Lab, notebook: Notebook) -> None:
    cell = notebook.run("%%px\ndef invert(x):\n    return 1 / x\n\ninvert(0)")
    cell.screenshot("error")
    with lab.dark():
        cell.screenshot("error-dark")
    text = cell.text()
    assert f"{len(ENGINES)} x ZeroDivisionError: division by zero" in text
    assert "----> 2     return 1 / x" in text
    highlighted = cell.outputs.locator("[class*='ansi-yellow-bg']").all_inner_texts()
    assert "1 / x" in "".join(highlighted)
    assert "ipyasyncresult" not in text


# --------------------------------------------------------------------------------------- hostile


HOSTILE = """<img src=x onerror="window.hacked = 1"></div><script>window.hacked = 1</script>"""


def test_nothing_that_a_task_says_runs_in_the_page(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    notebook.run(
        f"hostile = {HOSTILE!r}\n"
        "def work(gate):\n"
        "    import time\n"
        "    print(hostile)\n"
        "    while not gate.exists(): time.sleep(0.01)\n"
        "    raise ValueError(hostile)\n"
        "work.__name__ = hostile\n"
        "view = ipyasyncresult.connect().load_balanced_view()\n"
        "view.label = hostile\n"
        f"result = view.map_async(work, [Path({str(gate)!r})] * 2, chunksize=1)"
    )
    waiting = notebook.add("result.wait_interactive(interval=0.1)")
    waiting.start()
    waiting.wait_for(f"{HOSTILE}: 0/2")
    gate.touch()
    waiting.wait_for_end()
    shown = [
        waiting,
        notebook.run("result"),
        notebook.run("result.display_outputs('task')"),
        notebook.run("result.get()"),
    ]
    for cell in shown:
        assert HOSTILE in cell.text()
    drawn = notebook.run("result.timeline()")
    drawn.outputs.locator("svg, img").first.wait_for()
    shown[0].screenshot("hostile")
    assert notebook.page.locator("img[src=x]").count() == 0
    assert notebook.page.evaluate("() => window.hacked") is None
