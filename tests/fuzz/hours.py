"""Fuzz for hours on idle processors: ``python -m tests.fuzz.hours LOG [READER …] [--turn 240] [--pause FILE]``.

The readers take turns, with both engines where atheris is installed; each turn is a process of its own with a new
seed, and adds a line to LOG: reader, engine, minutes of processor time, exit code, findings so far. It ends when it is
stopped, and goes on where it was: ``python -m tests.fuzz.hours LOG --sum`` prints the minutes per reader.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.targets import TARGETS

_NO_ATHERIS = {"keras-hdf5", "keras-zip"}
"""HDF5's own crashes and endless searches would end each run of atheris, which no sandbox confines"""


def turn(name: str, engine: str, seed: int, seconds: float, folder: Path, pause: Path | None) -> tuple[float, int]:
    """One process; returns its processor time in seconds and its exit code."""
    command = [sys.executable, "-m", "tests.fuzz", name, "--engine", engine, "--seed", str(seed)]
    command += ["--seconds", str(seconds), "--findings", str(folder / "findings")]
    command += ["--corpus", str(folder / "corpus" / name)] if engine == "atheris" else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / f"{name}-{engine}.txt").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        paused = False
        while child.poll() is None:
            wanted = pause is not None and pause.exists()
            if wanted != paused:
                os.killpg(child.pid, signal.SIGSTOP if wanted else signal.SIGCONT)
                paused = wanted
            time.sleep(1)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, child.returncode


def main() -> None:
    """Go on until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="lines of turns; a folder beside it keeps corpora and findings")
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--turn", type=float, default=240, help="seconds of one turn")
    parser.add_argument("--first", type=int, default=0, help="the first seed: another one for each of several logs")
    parser.add_argument("--pause", type=Path, help="no work is done while this file exists")
    parser.add_argument("--sum", action="store_true", help="print the minutes of each reader and end")
    given = parser.parse_args()
    readers: list[str] = given.readers or list(TARGETS)
    if unknown := set(readers) - set(TARGETS):
        parser.error(f"no reader {', '.join(sorted(unknown))}")
    lines = given.log.read_text().splitlines() if given.log.exists() else []
    minutes: Counter[str] = Counter()
    for line in lines:
        name, _, spent, *_ = line.split("\t")
        minutes[name] += float(spent)  # pyright: ignore[reportArgumentType]
    if given.sum:
        for name in TARGETS:
            print(f"{name}\t{minutes[name]:.1f}")
        return
    folder: Path = given.log.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    engines = ["flips"] + ["atheris"] * (importlib.util.find_spec("atheris") is not None)
    pairs = [(n, e) for e in engines for n in TARGETS if e == "flips" or n not in _NO_ATHERIS]
    seed = given.first + len(lines)
    while True:
        name = min(readers, key=lambda n: minutes[n])  # the reader that had least
        mine = [e for n, e in pairs if n == name]
        engine = mine[seed % len(mine)]
        spent, code = turn(name, engine, seed, given.turn, folder, given.pause)
        minutes[name] += spent / 60  # pyright: ignore[reportArgumentType]
        found = len(list((folder / "findings").glob(f"{name}-*")))
        with given.log.open("a") as log:
            log.write(f"{name}\t{engine}\t{spent / 60:.2f}\t{code}\t{found}\n")
        seed += 1


if __name__ == "__main__":
    main()
