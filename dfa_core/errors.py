"""The two kinds of error that errorcast shows to its users."""


class _OneLine(Exception):
    """In IPython and notebooks, the message is shown instead of a stack trace."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows; it looks for a method of this name."""
        lines = [f"{type(self).__name__}: {self}"]
        if getattr(self, "__notes__", None):  # the stack of the process that failed
            lines.append("To see the stack trace: import traceback; traceback.print_last()")
        return lines


class JobError(_OneLine, ValueError):
    """The job cannot run as given; the message says what, where and what to do."""


class TrainingFailed(_OneLine, RuntimeError):
    """A run failed after it had started; everything saved before stays valid."""


class NonFiniteLoss(TrainingFailed):
    """The loss of one microbatch is NaN or infinite."""

    def __init__(self, step: int, microbatch: int, loss: float) -> None:
        super().__init__(step, microbatch, loss)  # all arguments, so that it survives pickling
        self.step, self.microbatch, self.loss = step, microbatch, loss

    def __str__(self) -> str:
        return f"the loss is {self.loss} at step {self.step}, microbatch {self.microbatch}"


def reason(error: Exception) -> str:
    """Return what an error of the user's own code says, in one line.

    Its type comes first where the text alone would say too little.
    """
    text = " ".join(str(error).split())
    if text and isinstance(error, RuntimeError | ValueError | TypeError | IndexError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
