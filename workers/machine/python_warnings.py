"""Takes the Python warnings of a process to whoever follows the run; nobody reads Ray's logs."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

_MOST = 5  # texts of one line of code: some have a number in their text that always changes


@dataclass(frozen=True)
class PythonWarning:
    """A warning, and the line of code that it was first given at."""

    text: str
    place: str

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.text} ({self.place})"


class PythonWarnings:
    """Tells each text once, wherever it comes from."""

    def __init__(self, tell: Callable[[PythonWarning], None]) -> None:
        """tell: called with each new warning."""
        self._tell, self._show_before = tell, warnings.showwarning
        self._told: set[str] = set()
        self._texts: Counter[tuple[type[Warning], str, int]] = Counter()  # of a line of code

    def listen(self) -> None:
        """Tell the warnings of this process from now on; Python's filters choose them."""
        warnings.showwarning = self._show

    def note(self, warning: PythonWarning) -> None:
        """Report a warning, perhaps of another process, unless its text was reported before."""
        if warning.text not in self._told:
            self._told.add(warning.text)
            self._tell(warning)

    def _show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text, place = f"{category.__name__}: {' '.join(str(message).split())}", (filename, lineno)
        if text not in self._told and self._texts[category, *place] < _MOST:
            self._texts[category, *place] += 1
            self.note(PythonWarning(text, f"{Path(filename).name}, line {lineno}"))
        self._show_before(message, category, filename, lineno, file, line)
