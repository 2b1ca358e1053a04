"""What a cold start consists of: ``make profile-start``.

A fresh process starts a cluster and asks each engine for a first result, many times; the medians
are printed.  Every Python of that start notes when it imports, forks, and opens certain files,
through an audit hook that a ``sitecustomize`` on ``PYTHONPATH`` installs: the package knows
nothing of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HOOK = """
import os, sys, time
note = os.open(os.environ["STARTUP_NOTES"], os.O_WRONLY | os.O_APPEND)
modules = {"ipyasyncresult", "msgspec", "IPython", "ipyasyncresult.hub.server"}
def write(what):
    now, cpu = time.monotonic(), time.process_time()
    os.write(note, f"{os.getpid()} {now} {cpu} {what}\\n".encode())
def hook(event, arguments):
    if event == "import" and arguments[0] in modules:
        write("import " + arguments[0])
    elif event == "os.fork" or event == "subprocess.Popen" or event == "startup":
        write(event + (" " + arguments[0] if event == "startup" else ""))
    elif event == "open" and str(arguments[0]).endswith("cluster.json.new"):
        write("open cluster.json")
os.register_at_fork(after_in_child=lambda: write("forked"))
sys.addaudithook(hook)
write("python")
"""
SCRIPT = """
import sys
import ipyasyncresult.client.client, ipyasyncresult.client.cluster
sys.audit("startup", "begin")
client = ipyasyncresult.Cluster(n={n}).start_and_connect_sync()
sys.audit("startup", "connected")
client[:].apply_sync(abs, -1)
sys.audit("startup", "results")
client.close()
sys.audit("startup", "closed")
"""
STEPS = [  # process, what it notes, the name of what is reached then
    ("client", "subprocess.Popen", "files and settings: the hub's process is started"),
    ("hub", "python", "Python is up"),
    ("hub", "os.fork", "has imported what hub and nursery share: forks the nursery"),
    ("hub", "open cluster.json", "listens"),
    ("nursery", "import IPython", "comes to IPython"),
    ("nursery", "os.fork", "has its shell: forks the first engine"),
    ("engine", "forked", "runs"),
    ("client", "startup connected", "all engines have registered"),
    ("client", "startup results", "every engine gave a result"),
    ("client", "startup closed", "nothing is left"),
]

Notes = list[tuple[int, float, float, str]]


def record(n: int, folder: Path) -> Notes:
    """What the processes of one start noted."""
    notes = folder / "notes"
    notes.write_text("")
    (folder / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "STARTUP_NOTES": str(notes)}
    subprocess.run([sys.executable, "-c", SCRIPT.format(n=n)], env=environment, check=True)
    rows = (line.split(None, 3) for line in notes.read_text().splitlines())
    return [(int(pid), float(now), float(cpu), what) for pid, now, cpu, what in rows]


def steps_of(notes: Notes) -> Iterator[tuple[float, float]]:
    """For each step: milliseconds since the begin, and of the processor since its process began."""
    began = next(i for i, note in enumerate(notes) if note[3] == "startup begin")
    client, origin, used, _ = notes[began]
    later = notes[began + 1 :]
    hub = next(pid for pid, _, _, what in later if what == "python")
    forked = list(dict.fromkeys(pid for pid, _, _, what in later if what == "forked"))
    pids = {"client": client, "hub": hub, "nursery": forked[0], "engine": forked[1]}
    for process, event, _ in STEPS:
        now, cpu = next(
            (now, cpu) for pid, now, cpu, what in later if pid == pids[process] and what == event
        )
        yield 1e3 * (now - origin), 1e3 * (cpu - (used if process == "client" else 0))


def bare(code: str) -> float:
    """Milliseconds of a Python that runs only that."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=11)
    options = parser.parse_args()
    before, runs, bares = os.getloadavg()[0], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeat):
            runs.append(list(steps_of(record(options.engines, Path(folder)))))
            bares.append([bare("pass"), bare("import IPython.core.interactiveshell")])
    print(f"{options.engines} engines, medians of {options.repeat}, "
          f"load {before:.1f} to {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    print("|    ms | ms of processor | process | reached |\n|---|---|---|---|")
    for (process, _, name), times in zip(STEPS, zip(*runs, strict=True), strict=True):
        at, used = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {at:5.0f} | {used:5.0f} | {process} | {name} |")
    nothing, shell = (statistics.median(column) for column in zip(*bares, strict=True))
    print(f"\nBeside it: python -c pass {nothing:.0f} ms, with IPython's shell {shell:.0f} ms")


if __name__ == "__main__":
    main()
