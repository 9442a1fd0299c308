"""A race: every entry in a process of its own, one at a time, round after round.

Processes, because OpenVINO has ended one with a segmentation fault and because thread pools of one
runtime disturb another's; one at a time, because they share the cores; in rounds, because the
machine drifts. Knows how to take turns and what was measured; not what runs.
"""

import multiprocessing as mp
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.lib.open_backend import open_run
from benchmarks.lib.race_entries import RaceEntry, Subject
from cascade.types import Array

SLOW_S, SLOW_ROUNDS = 10.0, 3
"""Whoever takes longer than this for a warm evaluation runs in so many rounds only."""


@dataclass
class Racer:
    """An entry at the start: its process, and what came of it.

    Attributes:
        entry: what runs.
        output: of the first evaluation; None where there was none.
        problem: why it does not run, in words.
        warm_s: seconds of the second evaluation, which is not counted.
        seconds: one number per round.
    """

    entry: RaceEntry
    process: Any = None
    pipe: Any = None
    output: Array | None = None
    problem: str = ""
    warm_s: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def ask(self, question: str, patience_s: float) -> Any:
        """One question to the process and its answer; None, and a problem, where it has none."""
        try:
            self.pipe.send(question)
            if not self.pipe.poll(patience_s):
                self.end(f"no answer within {patience_s:.0f} s")
                return None
            answer = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join(5)
            self.end(f"its process ended with code {self.process.exitcode}")
            return None
        if isinstance(answer, str):
            self.end(answer)
            return None
        return answer

    def end(self, problem: str = "") -> None:
        """No more turns."""
        self.problem = problem
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe: Connection, entry: RaceEntry, subject: Subject) -> None:
    """The child's life: open, then one evaluation per question."""
    try:
        run = open_run(entry, subject)
        while pipe.recv() != "stop":
            begun = time.perf_counter()
            output = run()
            pipe.send((time.perf_counter() - begun, output))
    except EOFError:
        return
    except Exception as exc:  # noqa: BLE001  the rim of the child: the table says what happened
        pipe.send(f"{type(exc).__name__}: {exc}".splitlines()[0][:200])


def line_up(
    entries: Sequence[RaceEntry],
    subject: Subject,
    patience_s: float,
    say: Callable[[str], None],
) -> list[Racer]:
    """Every entry opened and warm, or with its problem."""
    racers = []
    context = mp.get_context("spawn")
    for entry in entries:
        here, there = context.Pipe()
        process = context.Process(
            target=serve, args=(there, entry, subject), daemon=True, name=entry.name
        )
        process.start()
        there.close()
        racer = Racer(entry, process, here)
        begun = time.perf_counter()
        first = racer.ask("go", patience_s)
        if first is not None:
            racer.output = first[1]
            ready_s = time.perf_counter() - begun
            warm = racer.ask("go", patience_s)
            racer.warm_s = warm[0] if warm is not None else 0.0
            say(f"{entry.name}: ready after {ready_s:.1f} s, {racer.warm_s:.4f} s warm")
        if racer.problem:
            say(f"{entry.name}: {racer.problem}")
        racers.append(racer)
    return racers


def race(racers: Sequence[Racer], rounds: int, patience_s: float) -> None:
    """Fill in everybody's seconds, in rounds, then end all."""
    for number in range(rounds):
        for racer in racers:
            if racer.problem or (racer.warm_s > SLOW_S and number >= SLOW_ROUNDS):
                continue
            answer = racer.ask("go", patience_s)
            if answer is not None:
                racer.seconds.append(answer[0])
    for racer in racers:
        if not racer.problem:
            racer.end()
