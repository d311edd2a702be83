"""Damage good files in every way, give them to the product, and look for what it must not do.

    python -m benchmarks.fuzz [--kind NAME] [--count 10000] [--seed 1] [--case N]

A case is a folder of good files of which one is damaged, and one command, or reader, that gets it. A fault is: an exception that
is none of fcn4dist's, a crash, an exit code other than 0, 1 and 2, a refusal that does not name the file, a file left behind or
changed, a warning of Python's, more than 1 GB of memory, more than 20 s of CPU, and content that a digest proves
taken for good although it is another. Text without a digest may say something else and still be valid: that is counted apart.
Cases follow from kind, seed and number alone, and run in child processes, so that a crash is one fault. Exits 1 on a fault.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import click

from benchmarks.fuzz_damage import damage, put_in_place, release
from benchmarks.fuzz_kinds import KINDS, OUTPUT, Command, Seed

CPU_S = 20  # of a case: more is a hang
CLOCK_S = 600  # for those that wait; a machine may be busy
MOST_BYTES = 1 << 30  # that a case may add to the process
ADDRESS_BYTES = 16 << 30  # beyond which memory is refused, so that a case cannot take the machine along
Outcome = Literal["same", "changed", "refused", "fault"]


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    number: int
    outcome: Outcome
    what: str = ""  # which file was damaged, how, and who got it
    detail: str = ""  # of a fault
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What the product said."""

    exit_code: int
    content: bytes  # stdout, or what was read
    told: str = ""  # what a user reads
    fault: str = ""


def ask(command: Command) -> Answer:
    """Run a command of the command line in this process, or a reader; the working folder holds the files."""
    from fcn4dist.cli.main import main
    from fcn4dist.errors import Fcn4distError

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    code, content, fault = 0, b"", ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if isinstance(command, tuple):
                main([_fill_in(word) for word in command])
            else:
                content = command()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except Fcn4distError as error:  # a reader's; those of the command line are told by `main`
        code, content = error.exit_code, str(error).encode(errors="backslashreplace")
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        fault = f"{type(error).__name__}: {str(error)[:200]!r} at {Path(last.filename).name}:{last.lineno}"
        if "-vv" in sys.argv:
            traceback.print_exc()
    for stream in (out, err):
        stream.flush()
    said = [stream.buffer.getvalue() for stream in (out, err)]
    told = b"".join((content if code else b"", *said)).decode(errors="replace")
    return Answer(code, content + said[0], told, fault)


def _fill_in(word: str) -> str:
    """Return "@FILE" as the content of FILE, as far as a command line can hold it."""
    if not word.startswith("@"):
        return word
    return Path(word[1:]).read_bytes().replace(b"\0", b"")[:100_000].decode(errors="surrogateescape")


class Bench:
    """One process' place for cases: an empty folder, filled anew for each."""

    def __init__(self, kind: str, seed: int, seeds: list[Seed], folder: Path) -> None:
        self._name, self._seed, self._seeds = kind, seed, seeds
        self._folder = folder
        self._good: dict[tuple[int, int], bytes | None] = {}

    def run(self, number: int) -> Result:
        """Damage a file as case `number` says, and judge what becomes of it."""
        rng = random.Random(f"{self._name} {self._seed} {number}")
        place = rng.randrange(len(self._seeds))
        seed = self._seeds[place]
        victim = rng.choice(seed.victims)
        order = rng.sample(range(len(seed.commands)), len(seed.commands))
        # one that takes the undamaged files; there is none for a rank table that is a bad example
        which = next((which for which in order if self._ask_good(place, which) is not None), order[0])
        how, content = damage(rng, seed.files[victim])
        command = seed.commands[which]
        if victim.startswith("--"):  # an option's value is no file
            how, content = how if content is not None else "nothing", content or b""
        asked = " ".join(command) if isinstance(command, tuple) else getattr(command, "func", command).__name__
        what = f"{victim} ({how}), {asked}"
        self._fill(seed.files)
        if content is not None:
            Path(victim).write_bytes(content)
        writer = None if content is not None else put_in_place(how, Path(victim), seed.files[victim])
        before = _snapshot()
        start = time.process_time()
        with _limited():
            answer = ask(command)
        cpu_s = time.process_time() - start
        if writer is not None:
            release(Path(victim), writer)
        detail = answer.fault or _find_fault(answer, victim, before)
        outcome: Outcome = "refused" if answer.exit_code else "changed"
        if not detail and not answer.exit_code:
            if _with_output(answer) == self._good[place, which]:
                outcome = "same"
            elif seed.is_proven:
                detail = "taken for good, with another content"
        return Result(number, "fault" if detail else outcome, what, detail, cpu_s)

    def _ask_good(self, place: int, which: int) -> bytes | None:
        """Return what the undamaged files say; None where they are refused."""
        if (place, which) not in self._good:
            self._fill(self._seeds[place].files)
            answer = ask(self._seeds[place].commands[which])
            self._good[place, which] = None if answer.exit_code else _with_output(answer)
        return self._good[place, which]

    def _fill(self, files: dict[str, bytes]) -> None:
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, content in files.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)


def _snapshot() -> dict[str, bytes | None]:
    """Return every path of the working folder with its content; None where it is no regular file."""
    return {
        os.path.join(place, name): Path(place, name).read_bytes() if _is_regular(Path(place, name)) else None
        for place, folders, names in os.walk(".")
        for name in (*names, *folders)
    }


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _with_output(answer: Answer) -> bytes:
    return answer.content + (Path(OUTPUT).read_bytes() if Path(OUTPUT).is_file() else b"")


def _find_fault(answer: Answer, victim: str, before: dict[str, bytes | None]) -> str:
    if answer.exit_code not in (0, 1, 2):
        return f"exit code {answer.exit_code}"
    if "Traceback" in answer.told or "Warning: " in answer.told:
        return f"shown to the user: {answer.told[-300:]!r}"
    if answer.exit_code and not any(name in answer.told for name in (Path(victim).name, *Path(victim).parts[:1])):
        return f"does not name the file: {answer.told[:300]!r}"
    after = _snapshot()
    if not answer.exit_code:
        after.pop(f"./{OUTPUT}", None)
    paths = before.keys() | after.keys()
    if changed := sorted(path for path in paths if before.get(path, b"") != after.get(path, b"")):
        return f"left behind or changed: {', '.join(changed)}"
    if _peak_bytes() > MOST_BYTES:
        return f"{_peak_bytes() >> 20} MB of memory"
    return ""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """End this process by SIGPROF or SIGALRM when the block takes too long, and begin to watch its memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    signal.setitimer(signal.ITIMER_REAL, CLOCK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:"))


_BASE_BYTES = 0


def _peak_bytes() -> int:
    return _status_bytes("VmHWM") - _BASE_BYTES


def work(kind: str, seed: int, seeds_file: Path, numbers: list[int], results: Connection) -> None:
    """Run cases in this process; sends a case's number before it and its result after it."""
    global _BASE_BYTES
    with contextlib.suppress(FileNotFoundError), tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        if "-vv" not in sys.argv:  # C libraries write there
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        KINDS[kind].set_up()
        bench = Bench(kind, seed, pickle.loads(seeds_file.read_bytes()), Path(folder))
        bench.run(0)  # what is loaded on the way is no case's memory
        _BASE_BYTES = _status_bytes("VmRSS")
        resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize") + ADDRESS_BYTES,) * 2)
        for number in numbers:
            results.send(number)
            results.send(bench.run(number))


def _save_seeds(kind: str, file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        file.write_bytes(pickle.dumps(list(KINDS[kind].seeds())))


def run_kind(kind: str, seed: int, numbers: list[int], num_workers: int) -> list[Result]:
    """Run the cases of one kind; a child that a case ends is followed by another with those that are left."""
    context = multiprocessing.get_context("spawn")
    done: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as name:
        file = Path(name) / kind
        with ProcessPoolExecutor(1, context) as pool:  # MindSpore is loaded there, not here
            pool.submit(_save_seeds, kind, file).result()

        running: dict[Connection, tuple[BaseProcess, list[int]]] = {}

        def start(own: list[int]) -> None:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=work, args=(kind, seed, file, own, sender))
            process.start()
            sender.close()
            running[receiver] = (process, own)

        for worker in range(num_workers):
            if own := numbers[worker::num_workers]:
                start(own)
        at: dict[Connection, int] = {}
        with click.progressbar(length=len(numbers), label=f"{kind:<12}", file=sys.stderr) as bar:
            while running:
                for receiver in wait(list(running)):
                    assert isinstance(receiver, Connection)
                    process, own = running[receiver]
                    try:
                        message = receiver.recv()
                    except EOFError:
                        process.join()
                        del running[receiver]
                        if process.exitcode and receiver not in at:
                            raise click.ClickException(f"{kind}: a worker ended before its first case") from None
                        if process.exitcode:
                            number = at[receiver]
                            done.append(Result(number, "fault", "see --case", f"ended by {_name(process.exitcode)}"))
                            if left := own[own.index(number) + 1 :]:
                                start(left)
                        continue
                    if isinstance(message, int):
                        at[receiver] = message
                    else:
                        done.append(message)
                        bar.update(1)
    return done


def _name(exit_code: int) -> str:
    if exit_code > 0:
        return f"exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    hangs = {"SIGPROF": f" (more than {CPU_S} s of CPU)", "SIGALRM": f" (more than {CLOCK_S} s)"}
    return name + hangs.get(name, "")


def _row(kind: str, results: list[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    slowest = max(results, key=lambda result: result.cpu_s)
    figures = " | ".join(f"{counts[outcome]}" for outcome in ("same", "changed", "refused", "fault"))
    return f"| {kind} | {len(results)} | {figures} | {slowest.cpu_s:.1f} s (case {slowest.number}) |"


@click.command()
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="By default all.")
@click.option("--count", default=10_000, show_default=True, help="Cases a kind.")
@click.option("--seed", default=1, show_default=True)
@click.option("--case", "case", type=int, help="Repeat this one.")
@click.option("--workers", default=os.cpu_count() or 1)
@click.option("-vv", "is_loud", is_flag=True, help="Show tracebacks, and what C libraries write.")
def main(kinds: tuple[str, ...], count: int, seed: int, case: int | None, workers: int, is_loud: bool) -> None:
    """Run damaged files through the product; exit 1 on a fault."""
    rows, num_faults = [], 0
    for kind in kinds or KINDS:
        numbers = list(range(count)) if case is None else [case]
        results = run_kind(kind, seed, numbers, workers)
        rows.append(_row(kind, results))
        faults = sorted((result for result in results if result.outcome == "fault"), key=lambda result: result.number)
        num_faults += len(faults)
        for fault in faults if case is None else results:
            repeat = f"--kind {kind} --seed {seed} --case {fault.number}"
            click.echo(f"{repeat}: {fault.outcome}: {fault.what}: {fault.detail}")
    click.echo(
        "| kind | cases | accepted, same | accepted, changed | refused | faults | slowest, CPU |\n|---|---|---|---|---|---|---|"
    )
    click.echo("\n".join(rows))
    sys.exit(1 if num_faults else 0)


if __name__ == "__main__":
    main()
