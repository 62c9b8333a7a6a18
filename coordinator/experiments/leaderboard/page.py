"""The page of a board, made from the result files: a table for each target and bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from coordinator.experiments.leaderboard.result import Reached, Result, Results
from coordinator.experiments.leaderboard.targets import ONE_PROCESS, Entrant, Target

_COLUMNS = ("place", "method", "run by", "seconds", "steps", "workers", "machine", "commit", "date")
_LONGEST = 120  # characters of a failure; the file has all of it
GUIDE = "how-to/leaderboard.md"  # beside this project's own page
_KINDS: Mapping[str, str] = {
    "bp": "backpropagation on errorcast's blocks",
    "bp-delayed": "backpropagation on errorcast's blocks (PipeDream-2BW)",
    "dfa": "random feedback",
    "dfa-identity": "identity feedback",
    "dfa-hops1": "identity feedback and one hop",
    "dfa-hops2": "identity feedback and two hops",
    "dfa-sign": "random feedback of the error's sign",
    "dkp": "learned feedback",
    "drtp": "random feedback of the target",
    "fdfa": "forward-mode feedback",
    "local": "local errors",
    "shallow": "training of only the head",
    "pipeline": "backpropagation in a pipeline",
    "ddp": "backpropagation on replicas (DDP)",
    ONE_PROCESS: "backpropagation in one process",
}


@dataclass(frozen=True)
class Line:
    """A line of a table.

    reached: None where the median run did not reach the bound. there: how many of its runs did.
    """

    entrant: Entrant
    result: Result
    reached: Reached | None
    there: int

    @property
    def is_ours(self) -> bool:
        """Return whether it is a rule of errorcast's, and not backpropagation."""
        return not self.entrant.by_torch and not self.entrant.passes_back

    def as_json(self) -> dict[str, Any]:
        """Return the line as plain data: null where the bound was not reached."""
        result, best = self.result, self.result.best()
        reached = self.reached and {"seconds": self.reached.seconds, "steps": self.reached.steps}
        return {
            "method": self.entrant.name,
            "run_by": "torch" if self.entrant.by_torch else "errorcast",
            "rule_of_errorcast": self.is_ours,
            "reached": reached,
            "best": best and best[0],
            "failed": result.failed or None,
            "finished": result.finished,
            "workers": result.workers,
            "commit": result.origin.commit,
            "date": result.date,
            "command": result.command,
        }


@dataclass(frozen=True)
class Table:
    """All lines of a target for one bound, the fastest first."""

    name: str
    target: Target
    bound: float
    lines: Sequence[Line]

    @property
    def first(self) -> Line | None:
        """Return the line in first place, if any reached the bound."""
        first = next(iter(self.lines), None)
        return first if first is not None and first.reached is not None else None

    @property
    def goal(self) -> str:
        """Return the score and the bound to reach, in words."""
        return f"{self.target.score} {shown(self.target.score, self.bound)}"

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Return place, name, what it is, seconds and steps of each line, as texts."""
        return [_cells(place, line) for place, line in enumerate(self.lines, start=1)]

    def as_json(self) -> dict[str, Any]:
        """Return the table as plain data."""
        return {
            "target": self.name,
            "score": self.target.score,
            "bound": self.bound,
            "lines": [line.as_json() for line in self.lines],
        }


def tables(targets: Mapping[str, Target], results: Results) -> list[Table]:
    """Return the tables of all targets that have a line.

    A line whose score, bound or interval is not the one that its target has now is skipped. Raises
    JobError for a result that cannot be read.
    """
    found = []
    for name, target in targets.items():
        read = [(target.entrant(one), results.read(name, one)) for one in target.entrants]
        there = [(entrant, one) for entrant, one in read if one and one.is_of(target)]
        for bound in target.bounds if there else ():
            of_bound = [
                Line(e, one, one.reached(target, bound), one.seeds_that_reach(target, bound))
                for e, one in there
            ]
            found.append(Table(name, target, bound, sorted(of_bound, key=_place)))
    return found


def _place(line: Line) -> tuple[int, float]:
    if line.reached is not None:
        return 0, line.reached.seconds
    best = line.result.best()
    if best is None or line.result.failed:
        return 2, 0.0
    return 1, best[0] if line.result.score == "loss" else -best[0]


def headline(found: Sequence[Table]) -> str:
    """Return who is first, in sentences."""
    if not found:
        return "No line has been run yet."
    firsts = [(table, table.first) for table in found]
    ours = [(table, line) for table, line in firsts if line and line.is_ours]
    others = [(table, line) for table, line in firsts if line and not line.is_ours]
    nobody = [f"{table.name} to {table.goal}" for table, line in firsts if line is None]
    of_all = f"{len(ours)} of {len(found)} targets{_each(ours)}"
    sentences = [f"A rule without a backward pass, run by errorcast, is first on {of_all}."]
    if others:
        sentences.append(f"Backpropagation is first on {len(others)}{_each(others)}.")
    divided = [(table, line) for table, line in others if line.entrant.kind == ONE_PROCESS]
    several = [(table, line) for table, _ in divided if (line := _first_of_several(table))]
    if several:
        sentences.append(
            f"Where one process is first, the fastest on several processes is{_each(several)}."
        )
    if nobody:
        sentences.append(f"Nobody has reached {', '.join(nobody)}.")
    return " ".join(sentences)


def _first_of_several(table: Table) -> Line | None:
    """Return the first line of those that divide the work among several processes."""
    several = (line for line in table.lines if line.entrant.kind != ONE_PROCESS and line.reached)
    return next(several, None)


def _each(firsts: Sequence[tuple[Table, Line]]) -> str:
    named = [f"{table.name} to {table.goal} (`{line.entrant.name}`)" for table, line in firsts]
    return f": {', '.join(named)}" if named else ""


def page(found: Sequence[Table], folder: str, guide: str = "") -> str:
    """Return the page as Markdown.

    folder: of the result files, seen from the page. guide: the page that says how to add a row, if
    it is there.
    """
    to_add = f"[Add a line to the leaderboard]({guide})" if guide else _ELSEWHERE
    parts = ["# Leaderboard", _PURPOSE, _wrapped(headline(found)), _ABOUT.format(to_add=to_add)]
    for table in found:
        parts += [f"## {table.name}: {table.goal}", _about(table), _markdown(table, folder)]
    return "\n\n".join(parts) + "\n"


_PURPOSE = """\
Which method reaches a test score first? Each table below is one target: a network, and a score on
its test data. All contenders of a target train the same network on the same number of workers."""

_ABOUT = """\
How to read the tables:

- **Seconds** are of training only. They do not include evaluations and the start of workers. A row
  has the medians over its seeds.
- All contenders of a target are evaluated after the same number of **steps**. The first evaluation
  that reaches the score counts.
- **Not reached**: contenders that did not reach the score are at the end of a table, with their
  best score.
- **Run by** is errorcast on its blocks, or torch on the same workers. M is the number of
  microbatches.

`errorcast leaderboard` makes this page from the result files that the methods link to. Each command
below a table made one of its rows. To add a row, read {to_add}."""

_ELSEWHERE = "docs/how-to/leaderboard.md in the sources of errorcast"


def _about(table: Table) -> str:
    target = table.target
    seeds = f"{target.seeds} seed{'s' * (target.seeds > 1)}"
    said = f"{target.title}. Evaluated every {target.every} steps, {seeds}."
    chosen = f"How the settings were chosen: {target.chosen}" if target.chosen else ""
    machines = _machines(table)
    where = "" if len(machines) > 1 else f"Machine of all rows: {machines[0]}."
    return "\n\n".join(_wrapped(text) for text in (said, chosen, where) if text)


def _wrapped(text: str) -> str:
    return fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _markdown(table: Table, folder: str) -> str:
    said_above = {"machine"} if len(_machines(table)) == 1 else set()
    columns = [column for column in _COLUMNS if column not in said_above]
    rows = [columns, ["---"] * len(columns)]
    for place, line in enumerate(table.lines, start=1):
        cells = zip(_COLUMNS, _row(place, line, folder), strict=True)
        rows.append([cell for column, cell in cells if column not in said_above])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    commands = dict.fromkeys(line.result.command for line in table.lines)
    return "\n".join([*lines, "", "```sh", *commands, "```"])


def _row(place: int, line: Line, folder: str) -> tuple[str, ...]:
    result = line.result
    number, name, what, seconds, steps = _cells(place, line)
    file = f"{folder}/{result.target}-{result.entrant}.json"
    method = f"[{name}]({file}): {what}"
    if line.reached is not None and place == 1:
        number, method, seconds = (f"**{text}**" for text in (number, method, seconds))
    by = "torch" if line.entrant.by_torch else "errorcast"
    where = str(result.workers), _machine(result), _commit(result), result.date
    return number, method, by, seconds, steps, *where


def _cells(place: int, line: Line) -> tuple[str, str, str, str, str]:
    number = "" if line.reached is None else str(place)
    return number, line.entrant.name, _what(line), *_time(line)


def _what(line: Line) -> str:
    said, ran = _KINDS[line.entrant.kind], line.result.configuration
    if late := line.result.job.get("staleness"):
        said = f"{said}, {late} step{'s' * (late > 1)} late"
    if ran is None:
        return said
    if line.entrant.kind == ONE_PROCESS:
        return f"{said}, {line.result.workers} threads"
    if line.entrant.kind in ("pipeline", "bp"):  # it has run as one of several schedules
        said = f"{said}, {ran.label.removeprefix('errorcast bp, ')}"
    return f"{said}, M {ran.microbatches}"


def _time(line: Line) -> tuple[str, str]:
    """Return seconds and steps to the bound, or why there are none."""
    result, reached, best = line.result, line.reached, line.result.best()
    runs = len(result.runs)
    so_far = "" if result.finished or result.failed else f"; {runs} of {result.seeds} seeds so far"
    if reached is not None:
        of = f" ({reached.seeds} of {runs} seeds)" if reached.seeds < runs else ""
        return f"{reached.seconds:.1f}{of}{so_far}", f"{reached.steps:,.0f}"
    if result.failed:
        return f"failed: {result.failed[:_LONGEST]}".replace("|", "/"), ""
    if best is None:
        return "interrupted", ""
    said = f"reached by {line.there} of {runs} seeds" if line.there else "not reached"
    return f"{said}: best {shown(result.score, best[0])} in {best[1]:.1f} s{so_far}", ""


def shown(score: str, value: float) -> str:
    """Return a value of a score as people write it."""
    if score in ("accuracy", "auc"):
        return f"{100 * value:.4g}%"
    return f"{value:.4g}{' dB' if score == 'psnr' else ''}"


def _machines(table: Table) -> list[str]:
    """Return the machines that the lines were measured on, each one once."""
    return list(dict.fromkeys(_machine(line.result) for line in table.lines))


def _machine(result: Result) -> str:
    machine = result.origin.machine
    gpus = f", {len(machine['gpus'])} GPU" if machine["gpus"] else ""
    return f"{machine['cores']} cores, {machine['cpu']}{gpus}, torch {machine['versions']['torch']}"


def _commit(result: Result) -> str:
    origin = result.origin
    if not origin.commit:
        return f"errorcast {origin.machine['versions']['errorcast']}"
    return f"{origin.commit}{' and changes' if origin.changed else ''}"
