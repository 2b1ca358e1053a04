"""Where the time of one task goes: ``make profile``.

First the pieces, each alone and warm, in this process; then a real round trip and a real flood with
the processor time and the sleeps of every process, beside plain sockets.  Sleeps (voluntary context
switches) do not depend on how busy the machine is.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import workloads
from sides import Own, Raw

TICK = os.sysconf("SC_CLK_TCK")


def us(call: Callable[[], Any], divide: int = 1) -> float:
    """Microseconds, the best of many."""
    number = max(1, int(0.002 / max(1e-7, min(timeit.repeat(call, number=1, repeat=5)))))
    return min(timeit.repeat(call, number=number, repeat=15)) / number / divide * 1e6


def pieces() -> list[tuple[str, str, float]]:
    """Process, what it does, microseconds for one task of a batch of ten."""
    from ipyasyncresult.client.codec import WireCodec
    from ipyasyncresult.client.news import apply_news
    from ipyasyncresult.core.asyncresult import AsyncResult
    from ipyasyncresult.core.ledger import Ledger
    from ipyasyncresult.hub.archive import Archive
    from ipyasyncresult.hub.records import EngineState
    from ipyasyncresult.hub.state import HubState
    from ipyasyncresult.wire import messages as m
    from ipyasyncresult.worker.capture import Capture
    from ipyasyncresult.worker.functions import dump_arguments, dump_function
    from ipyasyncresult.worker.recorder import Recorder
    from ipyasyncresult.worker.runner import Runner

    function = dump_function(workloads.nothing)
    arguments, _ = dump_arguments((7,), {})
    ids = [f"session-{i}" for i in range(10)]

    def tasks() -> list[Any]:
        return [m.Task(i, 0, arguments) for i in ids]

    def enter() -> tuple[Ledger, list[Any]]:
        ledger = Ledger(WireCodec())
        return ledger, [ledger.submit_counted(i, None)[0] for i in ids]

    submit = m.encode(m.Submit([function], tasks()))
    run = m.encode(m.Run([function], tasks()))
    ends = [m.Finished(i, m.OK, b"\x80\x05N.", 0, 0.0, 0.0, 1e-5) for i in ids]
    stream = m.encode(m.Stream(list(ends)))
    news = m.encode(m.News(list(ends)))
    engine = EngineState(0, "e", 0.0)

    def hub(*, finish: bool) -> None:
        state = HubState(Archive())
        engine.assigned.clear()
        engine.load = 0.0
        state.engine_ready(engine)
        state.scheduler.took(function, 1e-5)
        state.submit("session", [function], tasks(), (), None, 0.0)
        state.assign()
        if finish:
            for end in ends:
                state.finished(engine, end, ())

    def heard() -> None:
        ledger, _ = enter()
        with ledger.batch() as batch:
            apply_news(batch, m.News(ends), (), {})

    class Holder:
        ledger, records = enter()

    with Holder.ledger.batch() as batch:
        apply_news(batch, m.News(ends), (), {})
    done = [AsyncResult.over(Holder, [record], "f", single=True) for record in Holder.records]  # type: ignore[arg-type]
    raws = [record.raw for record in Holder.records]

    def take() -> None:
        from ipyasyncresult.core.task import UNSET

        for result, raw in zip(done, raws, strict=True):
            result.records[0].raw, result.records[0].value = raw, UNSET
            result.get()

    capture = Capture(redirect_fds=False)
    capture.install()
    runner = Runner(capture)
    entering, making, hearing = us(enter, 10), us(tasks, 10), us(heard, 10)
    accepting, all_of_it = us(lambda: hub(finish=False), 10), us(lambda: hub(finish=True), 10)
    found = [
        ("client", "pickle function and arguments",
         us(lambda: (dump_function(workloads.nothing), dump_arguments((7,), {})))),
        ("client", "record, counter, message", entering + making),
        ("client", "encode", us(lambda: m.encode(m.Submit([function], tasks())), 10) - making),
        ("hub", "decode", us(lambda: m.decode_from_client(submit), 10)),
        ("hub", "queue, choose an engine", accepting - making),
        ("hub", "encode", us(lambda: m.encode(m.Run([function], tasks())), 10) - making),
        ("engine", "decode", us(lambda: m.decode_to_engine(run), 10)),
        ("engine", "capture, load, call, pickle",
         us(lambda: runner.run_call(function, arguments, (), recorder=Recorder()))),
        ("engine", "encode", us(lambda: m.encode(m.Stream(ends)), 10)),
        ("hub", "decode the end", us(lambda: m.decode_from_engine(stream), 10)),
        ("hub", "learn, keep, tell", all_of_it - accepting),
        ("hub", "encode the news", us(lambda: m.encode(m.News(ends)), 10)),
        ("client", "decode", us(lambda: m.decode_from_hub(news), 10)),
        ("client", "enter into the ledger", hearing - entering),
        ("client", "get: unpickle", us(take, 10)),
    ]  # fmt: skip
    capture.uninstall()
    return found


class Spent:
    """Processor time and sleeps of a process since it was made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began = self._now()

    def _now(self) -> tuple[float, int]:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        sleeps = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches"):
                    sleeps += int(line.split()[1])
        return (int(fields[11]) + int(fields[12])) / TICK, sleeps

    def per(self, count: int) -> tuple[float, float]:
        """Microseconds and sleeps."""
        cpu, sleeps = self._now()
        return (cpu - self.began[0]) / count * 1e6, (sleeps - self.began[1]) / count


def trips(side: Any, processes: dict[str, int], count: int = 2000) -> None:
    """One task after the other."""
    spent = {name: Spent(pid) for name, pid in processes.items()}
    took = []
    for _ in range(count):
        began = time.perf_counter()
        side.get(side.submit(workloads.nothing))
        took.append(time.perf_counter() - began)
    total = 1e6 * statistics.median(took)
    print(f"  p50 {total:.0f} us, fastest {1e6 * min(took):.0f} us")
    for name, one in spent.items():
        cpu, sleeps = one.per(count)
        print(f"  {name:8} {cpu:6.0f} us processor, {sleeps:5.2f} sleeps")


def main() -> None:
    print("One of ten tasks in a batch, each piece alone (us, best of many)\n")
    total = 0.0
    for process, piece, cost in pieces():
        total += cost
        print(f"  {process:8} {piece:34} {cost:7.2f}")
    print(f"  {'':8} {'together':34} {total:7.2f}")
    os.chdir(tempfile.mkdtemp(prefix="ipar-profile-"))

    print("\nFour hops over plain sockets")
    raw = Raw(1)
    raw.warm()
    trips(raw, {"client": os.getpid(), "hub": raw.children[0], "engine": raw.children[1]})
    raw.close()

    print("\nA round trip")
    side = Own(1)
    side.warm()
    about = side.client._connection.hub_pid
    processes = {
        "client": os.getpid(),
        "hub": about,
        "engine": side.client[0].apply_sync(os.getpid),
    }
    trips(side, processes)

    print("\nA flood of 20,000 tasks")
    count = 20_000
    spent = {name: Spent(pid) for name, pid in processes.items()}
    began = time.perf_counter()
    handles = [side.submit(workloads.nothing) for _ in range(count)]
    submitted = time.perf_counter() - began
    for handle in handles:
        side.get(handle)
    seconds = time.perf_counter() - began
    print(
        f"  {count / seconds:,.0f} tasks/s with one engine; "
        f"{submitted / count * 1e6:.1f} us to submit one"
    )
    for name, one in spent.items():
        cpu, sleeps = one.per(count)
        print(f"  {name:8} {cpu:6.1f} us processor, {sleeps:5.2f} sleeps")
    side.close()


if __name__ == "__main__":
    main()
