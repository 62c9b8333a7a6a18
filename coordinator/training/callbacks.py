"""Calls the user's callbacks between steps, and notes what they want of the run."""

from collections.abc import Mapping, Sequence

from dfa_tasks.callback import Callback, StopTraining


class Callbacks:
    """All callbacks of a run.

    stopped_by: which callback asked for the end, and why; empty while none did.
    failure: which callback failed, where and how; empty while none did. None is called after that.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks
        self._steps: list[tuple[int, float]] = []
        self.stopped_by = self.failure = ""

    @property
    def end(self) -> bool:
        """Return whether the run should end."""
        return bool(self.stopped_by or self.failure)

    def note_step(self, step: int, loss: float) -> None:
        """Keep a step for the next call, which comes when no worker computes."""
        if self._callbacks:
            self._steps.append((step, loss))

    def steps(self) -> None:
        """Report the steps that were noted."""
        steps, self._steps = self._steps, []
        for step, loss in steps:
            self._call("on_step", step, loss)

    def evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Report an evaluation, after the steps before it."""
        self.steps()
        self._call("on_evaluation", step, dict(scores))

    def checkpoint(self, step: int, path: str) -> None:
        """Report a checkpoint, after the steps before it."""
        self.steps()
        self._call("on_checkpoint", step, path)

    def _call(self, method: str, step: int, what: object) -> None:
        for one in self._callbacks:
            if self.failure:
                return
            name = type(one).__name__
            try:
                getattr(one, method)(step, what)
            except StopTraining as stop:
                why = " ".join(str(stop).split())
                self.stopped_by = self.stopped_by or f"{name}{f': {why}' if why else ''}"
            except (Exception, SystemExit) as error:  # noqa: BLE001
                text = " ".join(str(error).split())
                self.failure = (
                    f"callback {name}: {method} of step {step} raised {type(error).__name__}"
                    f"{f': {text}' if text else ''}"
                )
