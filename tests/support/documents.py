"""What the documents show: their code, and their commands, parsed by the command line itself."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from support.shown_blocks import in_line, shown_blocks
from typer.core import TyperGroup

from coordinator.cli.main import ON_A_SERVICE, app
from coordinator.cli.units import doubling
from coordinator.experiments.method_comparison import METHODS
from coordinator.experiments.sweep.ranges import Range, nested, read_range
from coordinator.job.resolve import Job, resolve
from coordinator.job.spec import assignment, given, merge, read_yaml, whole_numbers

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
README, GUIDE, EXPERIMENTS = (
    ROOT / name for name in ("README.md", "docs/tutorials/service.md", "docs/experiments.md")
)
RESULTS = [ROOT / "docs/results.md", *sorted(ROOT.glob("docs/results/*.md"))]
_FIELDS = (
    *("method", "blocks", "replicas", "microbatches", "batch_size"),
    *("epochs", "seed", "data_dir"),
)


def blocks(path: Path, language: str) -> list[str]:
    """Return a document's fenced code of a language."""
    return [block.code for block in shown_blocks(path) if block.language == language]


def commands(path: Path, program: str = "") -> list[list[str]]:
    """Return the commands that a document shows, as words; of one program, if it is named."""
    lines = "\n".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines for words in in_line(line) if program in ("", words[0])]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to a document's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}


def asks_a_service(words: Sequence[str]) -> bool:
    return words[1] in {verb.__name__ for verb in ON_A_SERVICE}


@dataclass(frozen=True)
class Command:
    """A command of `errorcast` as the command line understands it: the verb, and its arguments."""

    verb: str
    given: dict[str, Any]

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Command":
        """Raises a UsageError for a verb, an option or a value that there is not."""
        group = typer.main.get_command(app)
        assert isinstance(group, TyperGroup)
        context = group.context_class(group, info_name="errorcast")
        verb, command, rest = group.resolve_command(context, [*words[1:]])
        assert command is not None
        own = command.make_context(verb, rest, parent=context)
        return cls(str(verb), dict(own.params))

    @property
    def reads_runs(self) -> list[Path]:
        """The folders of runs that must be there already."""
        folders = list(self.given.get("run_dirs") or [])
        if self.verb in ("evaluate", "export", "generate"):
            folders.append(self.given["run_dir"])
        if self.resumes_a_folder:
            folders.append(Path(self.given["job"]))
        return folders

    @property
    def resumes_a_folder(self) -> bool:
        """Whether the job is the one of a run that is there."""
        return self.verb == "train" and self.given["resume"] and self.given["run_dir"] is None

    def jobs(self, **settings: Any) -> list[Job]:
        """Check every job that it would run, as it would. Raises JobError.

        settings: laid under its own.
        """
        trains = self.verb in ("train", "submit", "chaos", "bench", "plan", "compare", "sweep")
        if not trains or self.resumes_a_folder:
            return []
        task = str(self.given.get("job") or self.given.get("task"))
        flags = {name: self.given.get(name) for name in _FIELDS}
        each: list[dict[str, Any]] = [{}]
        if self.verb == "compare":
            names = self.given["methods"] or "bp,dfa,shallow"
            each = [dict(METHODS[name]) for name in names.split(",")]
        if self.verb == "sweep":
            each = [dict(METHODS[name]) for name in flags.pop("method").split(",")]
            ranges = [read_range(text) for text in self.given["over"]]
            each = [merge(one, nested(*of)) for one in each for of in _ends(ranges)]
        if self.verb == "bench":
            tried = whole_numbers("microbatches", flags.pop("microbatches"))
            each = [{"microbatches": number} for number in tried]
        if self.verb == "plan":
            each = [{"blocks": 1}]
            numbers = doubling("blocks", flags.pop("blocks"))
            if task == "mlp":  # the command makes it as deep as the blocks need
                self.given["layers"] = self.given["layers"] or max(8, *numbers)
            whole_numbers("replicas", flags.pop("replicas"))
        options = given({name: self.given.get(name) for name in ("width", "layers")})
        settings = merge(settings, given(flags), {"options": options} if options else {})
        if task.endswith(".yaml"):
            settings = merge(read_yaml(Path(task)), settings)
            task = str(settings.pop("task"))
        sets = [assignment(text) for text in self.given.get("set_") or []]
        return [resolve(task, merge(settings, *sets, one)) for one in each]


def _ends(ranges: Sequence[tuple[str, Range]]) -> Iterator[tuple[str, Any]]:
    """Yield each field of a sweep with each end of its range."""
    for field, each in ranges:
        for value in each.ends:
            yield field, value
