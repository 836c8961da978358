"""Fuzz the readers: ``python -m tests.fuzz TARGET … [--seconds 60] [--engine flips|atheris]``.

``flips`` needs nothing: it mutates seeds at random (cuts, flips, copies, numbers at their limits) in processes that may
die. ``atheris`` (pip install atheris) follows the coverage of netferry's own code, and reads no HDF5. A finding (an
untyped exception, a crash, more than 10 s or 1 GiB) is printed and kept in ``--findings``; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from netferry.converters.signatures import is_hdf5
from netferry.schemas import watch
from tests.fuzz.data_targets import DATA_TARGETS
from tests.fuzz.targets import FOLDER, TARGETS, Target

SECONDS, MEMORY = 10, 1 << 30
_ALL = {**TARGETS, **DATA_TARGETS}
_MODULES = ("tests.fuzz.targets", "tests.fuzz.data_targets")
_NUMBERS = [
    b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 9 + b"\x01", b"-1", b"0", b"2147483647", b"1e400", b"NaN", b"null",
]  # fmt: skip


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Return a damaged copy."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(7):
            case 0:
                del out[at:]
            case 1:
                out[at : at + rng.randrange(1, 40)] = b""
            case 2:
                out[at:at] = rng.choice(_NUMBERS)
            case 3:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                out[at:at] = other[start : start + rng.randrange(1, 200)]
            case 4:
                piece = rng.choice(_NUMBERS)
                out[at : at + len(piece)] = piece
            case _:
                if at < len(out):
                    out[at] ^= 1 << rng.randrange(8)
        if not out:
            break
    return bytes(out)


def one(target: Target, content: bytes) -> str | None:
    """Run one input; return what went wrong."""
    started = time.process_time()
    try:
        target.run(content)
    except MemoryError:
        return "memory: more than is allowed was asked for"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return said if not isinstance(error, KeyboardInterrupt) else None
    spent = time.process_time() - started
    return f"time: {spent:.0f} s" if spent > SECONDS else None


def flips(name: str, seconds: float, seed: int, findings: Path) -> tuple[int, int]:
    """Mutate seeds until the time is up; returns how many inputs were run and how many findings there are."""
    target, rng = _ALL[name], random.Random(seed)
    seeds = target.corpus()
    until = time.monotonic() + seconds
    runs = found = 0
    while time.monotonic() < until:
        batch = rng.randrange(1 << 60)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _batch(target, seeds, batch, until, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read().decode(errors="replace").split("\n")
        _, status = os.waitpid(child, 0)
        runs += sum(line == "." for line in told)
        problems = [line for line in told if line.startswith("!")]
        if os.WIFSIGNALED(status):
            number = signal.Signals(os.WTERMSIG(status)).name
            index = sum(line in (".", "") or line[:1] == "!" for line in told) - 1
            if target.confined is not None and target.confined(_nth(seeds, batch, index)):
                print(f"{name}: {number} in a native library, an error in the sandbox")
            else:
                problems.append(f"!{index} crash: {number}")
        for problem in problems:
            found += 1
            index, _, text = problem[1:].partition(" ")
            print(f"{name}: {text}", file=sys.stderr)
            findings.mkdir(parents=True, exist_ok=True)
            (findings / f"{name}-{batch}-{index}").write_bytes(_nth(seeds, batch, int(index)))
    return runs, found


def _batch(target: Target, seeds: list[bytes], batch: int, until: float, writing: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (60 + 2 * SECONDS, 90 + 2 * SECONDS))
    watch.confined()  # a library of C that loops ends the process, as it does in the sandbox
    rng = random.Random(batch)
    for index in range(200):
        if time.monotonic() > until:
            break
        problem = one(target, mutated(rng.choice(seeds), seeds, rng))
        os.write(writing, (f"!{index} {problem}\n" if problem else ".\n").encode())
    os._exit(0)


def _nth(seeds: list[bytes], batch: int, index: int) -> bytes:
    """The input again: a batch follows from its number."""
    rng = random.Random(batch)
    content = b""
    for _ in range(index + 1):
        content = mutated(rng.choice(seeds), seeds, rng)
    return content


def atheris(name: str, seconds: float, seed: int, findings: Path, corpus: Path | None = None) -> None:
    """Follow the coverage of netferry's own code; ends the process. ``corpus`` keeps inputs for the next run."""
    import atheris as engine  # pyright: ignore[reportMissingImports]

    for module in [m for m in sys.modules if m.split(".")[0] == "netferry" or m in _MODULES]:
        del sys.modules[module]
    with engine.instrument_imports(include=["netferry"]):  # pyright: ignore
        targets = import_module("tests.fuzz.targets")

        target = targets.TARGETS.get(name) or import_module("tests.fuzz.data_targets").DATA_TARGETS[name]
        kept: Path = corpus or targets.FOLDER / "corpus"
        kept.mkdir(parents=True, exist_ok=True)
        for i, content in enumerate(target.corpus()):
            (kept / str(i)).write_bytes(content)
            one(target, content)  # what is imported on the way is followed too

    def checked(content: bytes) -> None:
        if is_hdf5(content):  # by whatever name: the reader is chosen by the content, and no sandbox confines HDF5 here
            return
        if problem := one(target, content):
            raise RuntimeError(problem)

    findings.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={int(seconds)}", f"-seed={seed + 1}", "-timeout=600", "-report_slow_units=600"]
    options += ["-rss_limit_mb=1500", "-print_final_stats=1", f"-artifact_prefix={findings}/{name}-", "-max_len=20000"]
    engine.Setup([sys.argv[0], str(kept), *options], checked)  # its own limit on time would measure the clock
    engine.Fuzz()


def main() -> None:
    """Fuzz what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(_ALL)}; the readers of models by default"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--engine", choices=("flips", "atheris"), default="flips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=FOLDER / "findings")
    parser.add_argument("--corpus", type=Path, help="atheris: inputs to begin with, and where new ones are kept")
    given = parser.parse_args()
    names: list[str] = given.targets or list(TARGETS)
    if unknown := set(names) - set(_ALL):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    if given.engine == "atheris":
        if len(names) != 1:
            parser.error("atheris takes one target at a time")
        atheris(names[0], given.seconds, given.seed, given.findings, given.corpus)
        return
    total: dict[str, Any] = {}
    for name in names:
        runs, found = flips(name, given.seconds / len(names), given.seed, given.findings)
        total[name] = found
        print(f"{name}: {runs} inputs, {found} findings")
    if any(total.values()):
        print(f"kept in {given.findings}")
        sys.exit(1)


if __name__ == "__main__":
    main()
