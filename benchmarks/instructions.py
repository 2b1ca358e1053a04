"""Processor instructions of one task in client, hub and engine: ``make instructions``.

Counted by valgrind's callgrind, so the load of the machine changes nothing.  Each part runs alone,
warm, one task at a time: first so many tasks, then twice as many; the difference is what they cost.
Beside the sum stands which functions of C have the most of it (their own instructions).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import workloads

COUNT = 300
MOST = 6  # functions


def client() -> Callable[[], object]:
    """Pickle, record, encode; then decode the news, enter them, unpickle the value."""
    from ipyasyncresult.client.codec import WireCodec
    from ipyasyncresult.client.news import apply_news
    from ipyasyncresult.core.asyncresult import AsyncResult
    from ipyasyncresult.core.ledger import Ledger
    from ipyasyncresult.wire import messages as m
    from ipyasyncresult.worker.functions import dump_arguments, dump_function

    class Holder:
        ledger = Ledger(WireCodec())

    news = m.encode(m.News([m.Finished("i", m.OK, b"\x80\x05N.", 0, 0.0, 0.0, 1e-5)]))

    def run() -> None:
        function = dump_function(workloads.nothing)
        arguments, _ = dump_arguments((7,), {})
        task = m.Task("i", 0, arguments)
        record, tally = Holder.ledger.submit_counted("i", None)
        holder: Any = Holder
        result = AsyncResult.over(holder, [record], "f", single=True, tally=tally)
        m.encode(m.Submit([function], [task]))
        with Holder.ledger.batch() as batch:
            apply_news(batch, m.decode_from_hub(news), (), {})  # type: ignore[arg-type]
        result.get()

    return run


def hub() -> Callable[[], object]:
    """Decode, queue, assign, encode; then decode the end, learn, keep, encode the news."""
    from ipyasyncresult.hub.archive import Archive
    from ipyasyncresult.hub.records import EngineState, run_message
    from ipyasyncresult.hub.state import HubState
    from ipyasyncresult.wire import messages as m

    state = HubState(Archive(1))  # what ended is forgotten at once
    engine = EngineState(0, "e", 0.0)
    state.engine_ready(engine)
    submit = m.encode(m.Submit([b"function"], [m.Task("i", 0, b"arguments")]))
    stream = m.encode(m.Stream([m.Finished("i", m.OK, b"r", 0, 0.0, 0.0, 1e-5)]))

    def run() -> None:
        message: Any = m.decode_from_client(submit)
        state.submit("c", message.functions, message.tasks, (), message.group, 0.0)
        state.assign()
        for _, batch in state.runs:
            run_message(batch)
        state.runs.clear()
        ended: Any = m.decode_from_engine(stream)
        for item in ended.items:
            state.finished(engine, item, ())
        m.encode(m.News([item for item, _ in state.news.pop("c")]))

    return run


def engine() -> Callable[[], object]:
    """Decode, run with outputs captured, pickle, encode."""
    from ipyasyncresult.wire import messages as m
    from ipyasyncresult.worker.capture import Capture
    from ipyasyncresult.worker.functions import dump_arguments, dump_function
    from ipyasyncresult.worker.recorder import Recorder
    from ipyasyncresult.worker.runner import Runner

    capture = Capture()
    runner = Runner(capture)
    function = dump_function(workloads.nothing)
    arguments, _ = dump_arguments((7,), {})
    message = m.encode(m.Run([function], [m.Task("i", 0, arguments)]))

    def run() -> None:
        came: Any = m.decode_to_engine(message)
        done = runner.run_call(came.functions[0], came.tasks[0].arguments, recorder=Recorder())
        m.encode(m.Stream([m.Finished("i", m.OK, done.body, 0, 0.0, 0.0, done.duration)]))

    capture.install()
    return run


PARTS: dict[str, Callable[[], Callable[[], object]]] = {
    "client": client,
    "hub": hub,
    "engine": engine,
}


def counted(part: str, count: int, folder: str) -> tuple[int, dict[str, int]]:
    """All instructions of a process that runs so many tasks; and of each function alone."""
    out = f"{folder}/{part}.{count}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", sys.executable]
    subprocess.run([*command, __file__, part, str(count)], check=True, capture_output=True)
    shown = subprocess.run(
        ["callgrind_annotate", "--threshold=99", out], check=True, capture_output=True, text=True
    ).stdout
    total, functions = 0, {}
    for line in shown.splitlines():
        found = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+(\S.*)", line)
        if found is None:
            continue
        number, name = int(found[1].replace(",", "")), found[2]
        if name.startswith("PROGRAM TOTALS"):
            total = number
        else:
            # Of "file:function [library]" the function.
            name = re.sub(r"'\d+$", "", name.partition(":")[2].partition(" ")[0])  # recursion
            functions[name] = functions.get(name, 0) + number
    return total, functions


def main() -> None:
    if len(sys.argv) > 1:
        run = PARTS[sys.argv[1]]()
        for _ in range(int(sys.argv[2])):
            run()
        return
    with tempfile.TemporaryDirectory(prefix="ipar-instructions-") as folder:
        for part in PARTS:
            few, before = counted(part, COUNT, folder)
            many, after = counted(part, 2 * COUNT, folder)
            print(f"{part}: {(many - few) / COUNT:,.0f} instructions for one task")
            grown = {name: number - before.get(name, 0) for name, number in after.items()}
            for name in sorted(grown, key=lambda name: -grown[name])[:MOST]:
                print(f"    {grown[name] / COUNT:7,.0f}  {name}")


if __name__ == "__main__":
    main()
