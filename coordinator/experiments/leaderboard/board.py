"""Runs the lines of a board that are not there yet, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.experiments.leaderboard.code_version import commit_of_code
from coordinator.experiments.leaderboard.result import Origin, Result, Results, today
from coordinator.experiments.leaderboard.running import EntrantRun
from coordinator.experiments.leaderboard.targets import Entrant, Target
from coordinator.job.spec import to_settings
from coordinator.launch.interrupts import noted_interrupts
from coordinator.launch.ray_session import ray_for
from dfa_core import TrainingFailed
from dfa_speedup.results.machine import machine


@dataclass(frozen=True)
class Line:
    """A line to run: an entrant of a target."""

    name: str
    target: Target
    entrant: Entrant


def lines_of(targets: Mapping[str, Target], names: Sequence[str] | None) -> list[Line]:
    """Return the lines of these targets; names: of the entrants, all by default.

    Raises JobError for an entrant that none of the targets has.
    """
    known = list(dict.fromkeys(name for target in targets.values() for name in target.entrants))
    for name in names or ():
        if name not in known:
            next(iter(targets.values())).entrant(name)  # says which one is meant
    return [
        Line(key, target, target.entrant(name))
        for key, target in targets.items()
        for name in target.entrants
        if names is None or name in names
    ]


def run_lines(
    lines: Sequence[Line],
    results: Results,
    given: Mapping[str, Any],
    again: bool,
    command: Callable[[Line], str],
    report: Callable[[str], None],
) -> None:
    """Run the lines that are not finished, and write each as it grows.

    A line that fails says why, and the others run; a finished one runs only if asked (`again`). A
    line that was interrupted continues with its next seed, if code and machine are still the same.

    given: settings of where they run. command: what makes a line. report: gets one line of text now
    and then.

    Raises JobError for a job that is wrong, before the first line runs, TrainingFailed if all lines
    that ran have failed, and KeyboardInterrupt if it was interrupted.
    """
    jobs = [line.target.job(line.entrant, 0, given) for line in lines]
    for job in jobs:
        if job.task.fetch is not None:
            job.task.fetch()
    origin = Origin(*commit_of_code(), machine())
    waiting = []
    for line in lines:
        before, new = results.read(line.name, line.entrant.name), _new(line, origin, given, command)
        kept = before is not None and before.same(new) and not again
        if before is not None and kept and before.finished:
            report(f"{line.name}, {line.entrant.name}: has a result already")
        else:
            goes_on = before is not None and kept and before.origin == origin and not before.failed
            waiting.append((line, before if before is not None and goes_on else new))
    if not waiting:
        return
    workers = max(line.target.workers for line, _ in waiting)
    cpus = max(job.settings.resources.cpus for job in jobs)
    with ray_for(workers, cpus), noted_interrupts() as noted:

        def stop_if_asked() -> None:
            if noted:
                noted.clear()  # what ends now is not to be ended again
                raise KeyboardInterrupt

        for line, result in waiting:

            def keep(result: Result = result) -> None:
                result.date = today()
                results.write(result)

            EntrantRun(line.target, line.entrant, given, result, keep, report, stop_if_asked).run()
            report(f"{line.name}, {line.entrant.name}: {result.failed or 'done'}")
    if all(result.failed for _, result in waiting):
        line, result = waiting[-1]
        raise TrainingFailed(f"all lines failed; {line.name}, {line.entrant.name}: {result.failed}")


def _new(
    line: Line, origin: Origin, given: Mapping[str, Any], command: Callable[[Line], str]
) -> Result:
    target, entrant = line.target, line.entrant
    return Result(
        1,
        line.name,
        entrant.name,
        entrant.kind,
        to_settings(target.job(entrant, 0, given).spec),
        target.score,
        target.bounds,
        target.every,
        target.seeds,
        target.workers,
        origin,
        today(),
        command(line),
    )
