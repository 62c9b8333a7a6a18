"""Weights & Biases: a run there, which a resume continues, online or offline."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from coordinator.runs.trackers.tracked_ids import TrackedIds
from coordinator.runs.trackers.tracker import Line, RunEnd, Tracker, tag, values_of
from coordinator.runs.trackers.wandb_files import last_steps
from dfa_core.errors import reason

_STEPS = {kind: f"{kind}/step" for kind in ("train", "evaluation", "test")}
_PROJECT = "errorcast"
_INIT_S = 20.0  # the longest wait for the server; WANDB_INIT_TIMEOUT sets another
_EXIT_CODES: Mapping[RunEnd, int] = {"finished": 0, "failed": 1, "stopped": 255}  # as Ctrl-C there


class WandbRun(Tracker):
    """A row of the run's history for each line, with a step of its own for each kind of line.

    Its x-axes are `train/step`, `evaluation/step` and `test/step`. W&B's own step counts the rows:
    it can neither go back nor hold two rows of one step.
    """

    def __init__(self, folder: Path, ids: TrackedIds, warn: Callable[[str], None]) -> None:
        """folder: the run's; W&B's files go there too, unless WANDB_DIR is set."""
        self._folder, self._ids, self._warn = folder, ids, warn
        self._run: Any = None
        self._last: dict[str, int] = {}  # the last step that W&B holds, by kind of line
        self._files: list[Path] = []

    def begin(self, lines: Sequence[Line]) -> None:
        """Continue the run, or begin one; send the lines that it lacks.

        Raises what wandb raises, also when there is no way to record offline.
        """
        if self._run is None:
            self._run = self._open()
            for kind, step in _STEPS.items():
                self._run.define_metric(f"{kind}/*", step_metric=step)
        self.metrics(lines)

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Set the run's config; a resume may change it, e.g. the number of epochs."""
        self._run.config.update(dict(values), allow_val_change=True)

    def metrics(self, lines: Sequence[Line]) -> None:
        """Send the lines that W&B lacks; this waits for nothing."""
        for line in lines:
            kind, step = line["kind"], line["step"]
            if step > self._last.get(kind, -1):
                values = {tag(line, name): value for name, value in values_of(line).items()}
                self._run.log({**values, _STEPS[kind]: step})
                self._last[kind] = step

    def artifact(self, file: Path) -> None:
        """Keep a file for the artifact of the run."""
        self._files.append(file)

    def finish(self, end: RunEnd, summary: Mapping[str, Any]) -> None:
        """Send files, summary and state; wait until W&B has them."""
        import wandb  # noqa: PLC0415  # optional

        self._run.summary.update({**summary, "state": end})
        try:
            if self._files:
                kept = wandb.Artifact(f"run-{self._run.id}", type="model")
                for file in self._files:
                    kept.add_file(str(file))
                self._run.log_artifact(kept)
        finally:  # a server that takes no artifact may take the rest
            self._run.finish(exit_code=_EXIT_CODES[end])

    def _open(self) -> Any:
        known = self._ids.read()
        run_id = known.get("id") or os.environ.get("WANDB_RUN_ID") or token_hex(8)
        project = os.environ.get("WANDB_PROJECT") or known.get("project") or _PROJECT
        entity = os.environ.get("WANDB_ENTITY") or known.get("entity") or ""
        self._ids.write(id=run_id, project=project, entity=entity)
        place = Path(os.environ.get("WANDB_DIR") or self._folder)
        place.mkdir(parents=True, exist_ok=True)
        local = last_steps(place, run_id, _STEPS)
        given = {
            "id": run_id,
            "project": project,
            "entity": entity or None,
            "dir": str(place),
            "name": os.environ.get("WANDB_NAME") or self._folder.name,
        }
        run = self._start(given)
        if run.offline:
            self._last = local
        else:  # the server says what it holds
            self._last = {kind: int(run.summary.get(step, -1)) for kind, step in _STEPS.items()}
        return run

    def _start(self, given: Mapping[str, Any]) -> Any:
        """Start the run as wandb is set up to; offline, if no server takes it."""
        import wandb  # noqa: PLC0415  # optional

        options: dict[str, Any] = {"console": "off", "silent": True, "quiet": True}
        if not os.environ.get("WANDB_INIT_TIMEOUT"):
            options["init_timeout"] = _INIT_S
        try:
            settings = wandb.Settings(**options)
            return wandb.init(**given, resume="allow", reinit="create_new", settings=settings)
        except wandb.Error as error:
            self._warn(
                f"wandb: {reason(error)}; the run continues and is recorded offline in "
                f"{given['dir']}: send it with wandb sync"
            )
            wandb.teardown()  # its process would refuse to begin the same run again
            settings = wandb.Settings(**options)
            return wandb.init(**given, mode="offline", reinit="create_new", settings=settings)
