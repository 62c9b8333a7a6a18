"""What every verb prints through: a terminal of any kind, or the file or pipe in its place."""

from rich.console import Console
from rich.status import Status
from rich.text import Text

from coordinator.cli.streams import discard
from coordinator.experiments.text.folding import folded
from coordinator.experiments.text.spelling import spelled
from coordinator.experiments.text.table import TextTable


class Terminal(Console):
    """Standard output, or standard error, as rich shows it, with rules of our own.

    Text is shown as it is: it has no markup, and control characters become their escapes. A line
    folds between words on a terminal, and not at all in a pipe or file. A terminal that has gone
    away ends no run.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    @property
    def is_live(self) -> bool:
        """Whether lines may be drawn again: colours alone can be asked for in a pipe, too."""
        file = self.file
        return self.is_interactive and not file.closed and file.isatty()

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        shown = spelled(text, self.encoding)
        for part in shown.split("\n"):
            indent = len(part) - len(part.lstrip(" "))
            whole = not self.is_terminal or not part.strip()
            lines = [part.lstrip(" ")] if whole else folded(part, self.width - indent)
            for line in lines:
                self.print(Text(" " * indent + line, style=style), soft_wrap=True)

    def tables(self, *tables: TextTable) -> None:
        """Print tables, with a line between them."""
        for number, table in enumerate(tables):
            if number:
                self.print()
            self.print(table)

    def command(self, text: str) -> None:
        """Print a command that people copy: never folded by us."""
        self.print(Text(spelled(text, self.encoding)), soft_wrap=True)

    def working(self, text: str) -> Status:
        """Return a context that shows on a terminal what takes a while; see `still`."""
        spinner = "line" if self.options.ascii_only else "dots"
        console = self if self.is_live else Console(quiet=True, force_terminal=False)
        return Status(self.still(text), console=console, spinner=spinner)

    def still(self, text: str) -> Text:
        """Return a text for Status.update(), which would take markup for markup."""
        return Text(spelled(text, self.encoding))

    def on_broken_pipe(self) -> None:
        """Print no more: the reader has gone away, and a run continues without it."""
        self.quiet = True
        discard(self.file)
