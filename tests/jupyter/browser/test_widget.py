"""The live view in JupyterLab: what it shows, when its buttons are heard, and what stays of it.

Screenshots are left in ``artifacts/``.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from nbconvert import HTMLExporter, MarkdownExporter
from playwright.sync_api import Locator, Page

from tests.jupyter.lab import ARTIFACTS, Cell, Lab, Notebook, keep_picture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

SUBSHELLS = int(version("ipykernel").partition(".")[0]) >= 7
"""Whether the kernel hears buttons while a cell runs."""

STEPS = """
import time
import ipyasyncresult
from pathlib import Path

def step(gate):
    print("waiting for", gate.name)
    while not gate.exists():
        time.sleep(0.01)
    if gate.name == "gate1":
        raise ValueError("this one is <b>bad</b>")
    return gate.name

folder = Path({folder!r})
gates = [folder / f"gate{{n}}" for n in range({count})]
view = ipyasyncresult.connect(n=2).load_balanced_view()
def start():
    return view.map_async(step, gates, chunksize=1)
result = start()
"""


EFFECTS = {
    "retry": "root => root.querySelector('.ipar-failures').hidden",
    "interrupt": "root => /KeyboardInterrupt/.test(root.querySelector('.ipar-failures').innerText)",
    "stop": "root => /[1-9] aborted/.test(root.querySelector('.ipar-under').innerText)",
}
# By the page's own clock: Playwright takes longer for a question than a button for its answer.
PRESS = """(root, [action, effect]) => new Promise((resolve) => {
  const answer = root.querySelector('.ipar-answer');
  const isThere = eval(effect);
  const seen = {said: []};
  const look = () => {
    const ms = performance.now() - began;
    const text = answer.textContent;
    if (text.startsWith('The kernel is busy')) return;  // said for as long as a machine stalls
    if (text !== seen.said.at(-1)?.text) seen.said.push({text, ms});
    if (!seen.effect && isThere(root)) seen.effect = {ms, after: seen.said.length};
    if (seen.effect && seen.said.length > 1) {
      observer.disconnect();
      resolve(seen);
    }
  };
  const observer = new MutationObserver(look);
  const what = {subtree: true, childList: true, characterData: true, attributes: true};
  answer.textContent = answer.shown = '';
  observer.observe(root, what);
  const began = performance.now();
  root.querySelector(`[data-action=${action}]`).click();
  look();
})"""


class Widget:
    """The live view in the output of a cell."""

    def __init__(self, cell: Cell) -> None:
        self.root = cell.outputs.locator(".ipar")

    def part(self, name: str) -> Locator:
        return self.root.locator(f".ipar-{name}")

    def wait_for_count(self, text: str) -> None:
        self.part("count").get_by_text(text, exact=True).wait_for()

    def wait_for_key(self, text: str) -> None:
        """A number of the legend: ``2 running``."""
        self.part("key").filter(has_text=re.compile(rf"^\s*{text}\s*$")).first.wait_for()

    def wait_for_others_to_run(self, *ended: str) -> None:
        """Two that are not these: what an engine has not begun is taken back by a stop, too."""
        for item in ended:
            self.part("lane-what").get_by_text(item).wait_for(state="hidden")
        self.wait_for_key("2 running")

    def measure(self, action: str) -> dict[str, Any]:
        """Press a button in the page: what was said in which ms, and when its effect was seen."""
        seen: dict[str, Any] = self.root.evaluate(PRESS, [action, EFFECTS[action]])
        return seen

    def press(self, action: str) -> str:
        """Press a button; its answer."""
        before = self.part("answer").inner_text()
        # Not stopped by `aria-disabled`: a person can press such a button, too.
        self.root.locator(f"[data-action={action}]").click(force=True)
        # Where a machine stalls, the widget says that nobody hears it, until somebody does.
        answer = self.part("answer").filter(has_not_text=re.compile("^…?$|^The kernel is busy"))
        answer.wait_for()
        text = answer.inner_text()
        assert text != before
        return text


def open_gates(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"gate{number}").touch()


def assert_shows_the_end(cell: Cell) -> None:
    first, failure, engines = cell.text().splitlines()
    assert re.fullmatch(r"step: 4/4 done in .* s, 1 failed", first)
    assert failure.startswith("ValueError: this one is <b>bad</b> first: item 1 on engine ")
    assert engines == "2 engines"
    assert cell.outputs.locator(".jupyter-widgets").count() == 0


# ---------------------------------------------------------------------------- live, and ever after


def test_progress_is_live_while_the_cell_blocks_and_static_ever_after(
    lab: Lab, tmp_path: Path
) -> None:
    cells = [
        STEPS.format(folder=str(tmp_path), count=4),
        "result.wait_interactive(interval=0.1)",
        "result",
    ]
    with lab.notebook("progress.ipynb", cells) as notebook:
        notebook[0].start()
        waiting, shown = notebook[1], notebook[2]
        waiting.start()
        widget = Widget(waiting)
        widget.part("lane-what").get_by_text("item 0: ").wait_for()
        widget.part("line").get_by_text("waiting for gate0").wait_for()
        for done in (1, 2, 3):
            open_gates(tmp_path, done - 1)
            widget.wait_for_count(f"{done} of 4")
            widget.root.locator(f"[role=progressbar][aria-valuenow='{done}']").wait_for()
            assert waiting.prompt == "[*]:"
        widget.part("failure-title").get_by_text("ValueError: this one is <b>bad</b>").click()
        widget.part("failure").get_by_text("raise ValueError").or_(
            widget.part("failure").get_by_text("in step")
        ).first.wait_for()
        waiting.screenshot("progress")
        with lab.dark():
            waiting.screenshot("progress-dark")

        open_gates(tmp_path, 3)
        waiting.wait_for_end()
        shown.start()
        shown.wait_for_end()
        assert_shows_the_end(waiting)
        assert waiting.text() == shown.text()
        shown.outputs.locator("summary").first.click()
        shown.screenshot("result")
        with lab.dark():
            shown.screenshot("result-dark")

        saved = notebook.saved()
        assert [set(output.data) for output in saved.cells[1].outputs] == [
            {"text/plain", "text/html"}
        ]
        assert "widgets" not in saved.metadata
        notebook.restart_kernel()
        assert_shows_the_end(waiting)

    with lab.notebook("progress.ipynb") as reopened:
        assert_shows_the_end(reopened[1])
        reopened[1].outputs.locator("summary").first.click()
        reopened[1].screenshot("reopened")
        # Its colours and shapes have survived the sanitizer, too.
        parts = reopened[1].outputs.locator("div[style*='inline-block']")
        lines = parts.evaluate_all("all => all.map(e => getComputedStyle(e).borderTop)")
        assert lines == ["6px solid rgb(56, 142, 60)", "6px double rgb(229, 57, 53)"]
    for exporter in (HTMLExporter, MarkdownExporter):
        page, _ = exporter().from_filename(str(lab.root / "progress.ipynb"))
        assert "4/4 done" in page
        assert "this one is &lt;b&gt;bad&lt;/b&gt;" in page


def test_a_pending_result_lives_on_after_its_cell_and_while_others_run(
    lab: Lab, tmp_path: Path
) -> None:
    cells = [STEPS.format(folder=str(tmp_path), count=4), "result", "print('mine')"]
    with lab.notebook("pending.ipynb", cells) as notebook:
        notebook.start_all()
        notebook[2].wait_for_end()
        widget = Widget(notebook[1])
        widget.wait_for_count("0 of 4")
        open_gates(tmp_path, 0)
        widget.wait_for_count("1 of 4")
        assert notebook[1].prompt == "[2]:"
        notebook[1].screenshot("pending")
        open_gates(tmp_path, 1, 2, 3)
        notebook[1].wait_for("step: 4/4 done")
        assert_shows_the_end(notebook[1])
        assert notebook[2].text() == "mine"


# ------------------------------------------------------------------------------------------ buttons


@pytest.mark.parametrize("how", ["blocks", "awaits", "returned"])
def test_buttons_are_heard_while_the_cell(how: str, lab: Lab, tmp_path: Path) -> None:
    waits = {
        "blocks": "result.wait_interactive()",
        "awaits": "import asyncio\nwith result.show_live():\n    while not result.ready():\n"
        "        await asyncio.sleep(0.05)",
        "returned": "result",
    }
    cells = [STEPS.format(folder=str(tmp_path), count=8), waits[how]]
    with lab.notebook(f"{how}.ipynb", cells) as notebook:
        notebook.start_all()
        waiting = notebook[1]
        widget = Widget(waiting)
        widget.part("lane-what").get_by_text("item 1: ").wait_for()
        is_busy = how != "returned"
        if is_busy:
            assert waiting.prompt == "[*]:"
        else:
            waiting.wait_for_end()  # the view may be there before
        assert widget.root.locator("[data-action=retry]").get_attribute("aria-disabled") == "true"
        assert "nothing has failed" in widget.press("retry")

        open_gates(tmp_path, 1)
        widget.part("failure-title").wait_for()
        open_gates(tmp_path, 2)  # good, when it runs
        (tmp_path / "gate1").unlink()
        widget.part("lane-what").get_by_text("item 3: ").wait_for()  # 0 and 3 run, and stay
        answers = {
            "retry": "1 runs again",
            "interrupt": r"2 interrupted, \d still queued",
            "stop": r"\d aborted, \d already running",
        }
        if not SUBSHELLS and is_busy:  # the others go over the server
            del answers["retry"]
        figures = {}
        for action, expected in answers.items():
            widget.root.locator(f"[data-action={action}]:not([aria-disabled])").wait_for()
            seen = widget.measure(action)
            at_once, answer = seen["said"]
            assert at_once["text"] == "…"
            assert re.fullmatch(expected, answer["text"]), answer
            figures[action] = {"answer_ms": answer["ms"], "effect_ms": seen["effect"]["ms"]}
            if action == "interrupt":
                widget.wait_for_others_to_run("item 0: ", "item 3: ")
        keep_figures(f"buttons while the cell {how}", figures)
        widget.wait_for_key(r"\d aborted")
        waiting.screenshot(f"buttons-{how}")
        open_gates(tmp_path, *range(8))
        waiting.wait_for(re.compile(r"step: 8/8 done"))
        if is_busy:
            waiting.wait_for_end()
        assert "2 x KeyboardInterrupt" in waiting.text()


def test_the_toolbars_stop_button_ends_the_wait_and_the_buttons_go_on(
    lab: Lab, tmp_path: Path
) -> None:
    cells = [STEPS.format(folder=str(tmp_path), count=4), "result.wait_interactive()"]
    with lab.notebook("stopped.ipynb", cells) as notebook:
        notebook.start_all()
        widget = Widget(notebook[1])
        widget.wait_for_key("2 running")
        notebook.interrupt()
        notebook[1].wait_for_end()
        assert "KeyboardInterrupt" in notebook[1].text()
        answer = widget.press("stop")
        assert re.fullmatch(r"2 aborted, 2 already running", answer), answer
        open_gates(tmp_path, *range(4))
        notebook[1].wait_for(re.compile(r"step: 4/4 done"))
        assert notebook[1].outputs.locator(".jupyter-widgets").count() == 0


def test_px_shows_the_widget_after_a_while(notebook: Notebook, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    cell = notebook.add(
        f"%%px --progress-after 0.1\nwhile not Path({str(gate)!r}).exists(): time.sleep(0.01)"
    )
    cell.start()
    widget = Widget(cell)
    widget.part("lane-what").first.wait_for()
    assert widget.part("lane-what").first.inner_text().startswith("while not Path(")
    gate.touch()
    cell.wait_for_end()


# ----------------------------------------------------------------------------------- many engines


MANY = """
import random, threading, time
from ipyasyncresult.core.outputs import Output
from ipyasyncresult.core.task import Status
from ipyasyncresult.testing import FakeClient

ENGINES, TASKS, SECONDS = 128, 100_000, 4.0

class Many(FakeClient):
    # What it runs is made up; the ledger, the result and the view are real.
    def __init__(self):
        super().__init__(ENGINES, clock=time.time)
        self.engines = {n: {"up": n != 17, "uuid": str(n), "stopped": n == 40}
                        for n in range(ENGINES)}
    def engine_count(self):
        return ENGINES

client = Many()
result = client.submit_map([1] * TASKS, fname="simulate")
ids = result.msg_ids

def work(begin, go_on):
    begin.wait()
    chance = random.Random(1)
    began, done = time.time(), 0
    for engine in range(ENGINES):
        client.start(ids[TASKS - 1 - engine], engine)
    while done < TASKS - ENGINES:
        # 60 % of the way, then it stays there until somebody lets it go on.
        due = (TASKS - ENGINES) * min(0.6, 0.6 * (time.time() - began) / SECONDS)
        if go_on.is_set():
            due = TASKS - ENGINES
        with client.ledger.batch() as batch:
            while done < due:
                record = batch.get(ids[done])
                record.engine_id = chance.randrange(ENGINES)
                record.started, record.duration = time.time() - 0.1, 0.1 * chance.random()
                batch.output(ids[done], [Output("stdout", time.time(), f"step {done}\\n")])
                batch.finish(ids[done], Status.DONE, raw=(True, [done]))
                done += 1
        time.sleep(0.005)
    for engine in range(ENGINES):
        client.finish(ids[TASKS - 1 - engine], [engine])

begin, go_on = threading.Event(), threading.Event()
threading.Thread(target=work, args=[begin, go_on], daemon=True).start()
result
"""

WATCH = """() => {
  const frames = window.frames_seen = {longest: 0, last: performance.now(), count: 0, changes: 0};
  const bar = document.querySelector('.ipar-bar');
  window.bar_observer = new MutationObserver(() => { frames.changes += 1; });
  window.bar_observer.observe(bar, {attributes: true, attributeFilter: ['aria-valuenow']});
  const next = (now) => {
    frames.longest = Math.max(frames.longest, now - frames.last);
    frames.last = now;
    frames.count += 1;
    window.frame_request = requestAnimationFrame(next);
  };
  frames.began = performance.now();
  window.frame_request = requestAnimationFrame((now) => { frames.last = now; next(now); });
}"""
SEEN = """() => {
  cancelAnimationFrame(window.frame_request);
  window.bar_observer.disconnect();
  const seen = window.frames_seen;
  const seconds = (performance.now() - seen.began) / 1000;
  return {updates_per_second: seen.changes / seconds, longest_frame_ms: seen.longest,
          frames_per_second: seen.count / seconds, seconds};
}"""


def test_128_engines_and_100_000_tasks_stay_readable_and_smooth(lab: Lab) -> None:
    with lab.notebook("many.ipynb", [MANY, "begin.set()", "go_on.set()"]) as notebook:
        notebook[0].start()
        widget = Widget(notebook[0])
        widget.root.locator("[role=progressbar][aria-valuenow]").wait_for()
        lab.page.evaluate(WATCH)
        notebook[1].start()
        value = lab.page.locator(".ipar-bar").first
        lab.page.wait_for_function(
            "() => +document.querySelector('.ipar-bar').getAttribute('aria-valuenow') >= 59000"
        )
        seen: dict[str, Any] = lab.page.evaluate(SEEN)
        keep_figures("128 engines, 100,000 tasks", seen)
        assert value.get_attribute("aria-valuemax") == "100000"

        tiles = widget.part("tile")
        assert tiles.count() == 128
        assert tiles.nth(17).get_attribute("data-state") == "starting"
        assert tiles.nth(40).get_attribute("data-state") == "stopped"
        tiles.nth(3).click()
        assert widget.part("lane-id").inner_text() == "3"
        lab.page.keyboard.press("ArrowRight")
        lab.page.keyboard.press("ArrowRight")
        assert widget.part("lane-id").inner_text() == "5"
        assert lab.page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
        keep_picture("many", widget.root.screenshot())
        with lab.dark():
            keep_picture("many-dark", widget.root.screenshot())
        notebook[2].start()
        notebook[0].wait_for("simulate: 100,000/100,000 done")


def keep_figures(name: str, figures: dict[str, Any]) -> None:
    """How long things took, for people to look at; no test asks for it."""
    ARTIFACTS.mkdir(exist_ok=True)
    file = ARTIFACTS / "widget-figures.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, name: figures}, indent=1))
    print(name, figures)


# ------------------------------------------------------------------------------------ for everyone


def test_it_can_be_used_by_keyboard_and_read_by_a_screen_reader(lab: Lab, tmp_path: Path) -> None:
    with lab.notebook(
        "keyboard.ipynb", [STEPS.format(folder=str(tmp_path), count=6), "result"]
    ) as notebook:
        notebook.start_all()
        widget = Widget(notebook[1])
        widget.wait_for_key("2 running")
        page = notebook.page
        bar = page.get_by_role("progressbar", name=re.compile("step: 0 of 6 ended, 0 failed"))
        assert bar.get_attribute("aria-valuemax") == "6"
        assert page.get_by_role("region", name="Progress of step").count() == 1
        for name in ("Stop queued", "Interrupt running", "Retry failed"):
            assert page.get_by_role("button", name=name).count() == 1
        page.get_by_role("button", name="Stop queued").focus()
        page.keyboard.press("Enter")
        page.get_by_role("status").get_by_text("4 aborted, 2 already running").wait_for()
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        notebook[1].wait_for(re.compile("step: 6/6 done.*2 failed, 4 aborted"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(theme: str, lab: Lab, tmp_path: Path) -> None:
    with lab.notebook(
        f"contrast-{theme}.ipynb", [STEPS.format(folder=str(tmp_path), count=4), "result"]
    ) as notebook:
        notebook.start_all()
        widget = Widget(notebook[1])
        open_gates(tmp_path, 0, 1)
        widget.part("failure-title").wait_for()
        if theme == "dark":
            with lab.dark():
                ratios = contrasts(notebook.page)
        else:
            ratios = contrasts(notebook.page)
        assert len(ratios) >= 5
        assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
        open_gates(tmp_path, 2, 3)
        notebook[1].wait_for("step: 4/4 done")


CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], back) =>
    [r, g, b].map((value, i) => (value * a + back[i] * (255 - a)) / 255);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const root = document.querySelector('.ipar');
  const back = over(rgba(getComputedStyle(root).backgroundColor), [255, 255, 255]);
  const found = {};
  for (const name of ['title', 'count', 'pace', 'key', 'value', 'lane-id', 'lane-what', 'lane-time',
                      'lane-notes', 'line', 'failure-title', 'failure-first']) {
    const element = root.querySelector(`.ipar-${name}`);
    if (!element) continue;
    const front = luminance(over(rgba(getComputedStyle(element).color), back));
    const behind = luminance(back);
    const [light, dark] = [Math.max(front, behind), Math.min(front, behind)];
    found[name] = (light + 0.05) / (dark + 0.05);
  }
  return found;
}"""


def contrasts(page: Page) -> dict[str, float]:
    """Contrast of each kind of text with its background, as WCAG counts it."""
    found: dict[str, float] = page.evaluate(CONTRASTS)
    return found


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
        "class Item:\n"
        "    def __init__(self, gate): self.gate = gate\n"
        "    def __repr__(self): return hostile\n"
        "    def exists(self): return self.gate.exists()\n"
        f"result = view.map_async(work, [Item(Path({str(gate)!r}))] * 2, chunksize=1)"
    )
    waiting = notebook.add("result.wait_interactive(interval=0.1)")
    waiting.start()
    widget = Widget(waiting)
    widget.part("title").get_by_text(HOSTILE[:40]).wait_for()
    waiting.screenshot("hostile-live")
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
