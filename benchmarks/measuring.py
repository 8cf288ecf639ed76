"""Interleaved rounds, targets, and the files that results are kept in."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .machine import describe

RESULTS = Path(__file__).parent / "results"

Contender = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Target:
    """A claim, what it wants and what was measured.

    Args:
        claim: In words.
        wanted: The figure to reach.
        measured: The one that was.
        at_least: Whether more is better.
    """

    claim: str
    wanted: float
    measured: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Tell whether the target was reached."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "NOT MET"
        return f"{self.claim}: {self.measured:.3g}, wanted {bound} {self.wanted:.3g}: {verdict}"


@dataclass(slots=True)
class Result:
    """One workload, measured once.

    Args:
        workload: Its short name, which names the file too; a slash is a folder.
        title: What it is, in a line.
        seconds: For each contender the seconds of each round.
        figures: Whatever else was counted or measured.
        targets: What was aimed at.
    """

    workload: str
    title: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    figures: dict[str, float | str] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def median(self, contender: str) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds[contender])

    def finish(self, *, keep: bool) -> None:
        """Print the result.

        Args:
            keep: Whether to write it to `results/` too.
        """
        print(f"\n{self.workload}: {self.title}")
        fastest = min((self.median(name) for name in self.seconds), default=0.0)
        for name in self.seconds:
            print(f"  {name:58}{self.median(name):9.4f} s{self.median(name) / fastest:8.2f}x")
        for name, figure in self.figures.items():
            print(f"  {name:58}{figure if isinstance(figure, str) else f'{figure:12,.5g}'}")
        for target in self.targets:
            print(f"  {target}")
        if keep:
            self._write()

    def _write(self) -> None:
        payload = {
            "workload": self.workload,
            "title": self.title,
            "machine": describe(),
            "seconds": {name: [round(s, 5) for s in times] for name, times in self.seconds.items()},
            "medians": {name: round(self.median(name), 5) for name in self.seconds},
            "figures": self.figures,
            "targets": [{**asdict(t), "met": t.met} for t in self.targets],
        }
        file = RESULTS / f"{self.workload}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(payload, indent=1, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")


def interleave(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Each contender once a round, in turn; the seconds of each, the first round left out.

    Args:
        contenders: What to call.
        rounds: Rounds that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if number:  # the first one warms up
                seconds[name].append(time.perf_counter() - started)
    return seconds
