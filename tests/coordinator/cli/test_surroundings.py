"""Each verb in each kind of surroundings: no colours, a dumb terminal, a pipe, ASCII, no stdin."""

import contextlib
import os
import pty
import re
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.command_line import ERRORCAST, TERMINAL, Result, run_errorcast
from support.documents import Command
from support.in_process import train_here

from coordinator.cli.main import HERE, ON_A_SERVICE, app

ROOT = Path(__file__).parents[3]
VERBS = [verb.__name__ for verbs in (*HERE.values(), ON_A_SERVICE) for verb in verbs]
AROUND: Mapping[str, Mapping[str, str]] = {
    "no colour": {"NO_COLOR": "1"},
    "a dumb terminal": {"TERM": "dumb"},
    "60 columns": {"COLUMNS": "60"},
    "ASCII": {"encoding": "ascii", "COLUMNS": "0"},
}
ASCII = {"ASCII": AROUND["ASCII"]}
SHORT = ("--epochs", "1", "--set", "options.width=16")
SMALL = ("--width", "16", "--layers", "2", "--batch-size", "32")
ROUNDS = ("--rounds", "1", "--steps", "1", "--microbatches", "2")
CASES = {
    "tasks": (["tasks"], 0, AROUND),
    "summary": (["summary", "digits", "--set", "options.width=64"], 0, AROUND),
    "evaluate": (["evaluate", "größe 大/run", "--alignment"], 0, AROUND),
    "an unknown task": (["train", "größe → 大"], 2, AROUND),
    "a folder that is no run": (["evaluate", "größe ± 大"], 2, AROUND),
    "export": (["export", "größe 大/run", "-o", "größe.safetensors"], 0, ASCII),
    "leaderboard": (["leaderboard", "--dir", "leaderboard"], 0, ASCII),
    "plan": (["plan", "mlp", "--blocks", "1,2", *SMALL], 0, ASCII),
    "generate": (["generate", "größe 大/run"], 2, ASCII),
    "render": (["render", "größe 大/run"], 2, ASCII),
    "no service": (["jobs", "--address", "127.0.0.1:1"], 1, ASCII),
}
NAMED = ("an unknown task", "a folder that is no run", "export", "generate")
HEAVY = {
    "train": ["train", "digits", "--blocks", "1", "--run-dir", "größe 大/again", *SHORT],
    "tsne": ["tsne", "größe 大/run", "-o", "größe.png"],
    "bench": ["bench", "mlp", "--blocks", "2", "--out", "größe", *SMALL, *ROUNDS],
    "compare": ["compare", "digits", "--methods", "shallow", "--blocks", "1", *SHORT],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run in a folder whose name no ASCII terminal can show, and a board."""
    made = tmp_path_factory.mktemp("here")
    (made / "größe 大").mkdir()
    train_here("digits", made / "größe 大" / "run", epochs=1, options={"width": 64})
    (made / "leaderboard").symlink_to(ROOT / "docs" / "leaderboard")
    return made


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_fits_any_terminal(verb: str) -> None:
    for columns in ("60", "80", "132"):
        done = run_errorcast(verb, "--help", COLUMNS=columns, TERM="dumb")
        assert done.code == 0
        lines = done.out.splitlines()
        assert max(map(cell_len, lines)) <= int(columns)
        assert "Example" in done.out
        assert not re.search(r"\x1b", done.out)


def test_the_help_shows_a_sentence_for_each_verb() -> None:
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", run_errorcast("--help").out).split())
    for command in app.registered_commands:
        sentence = str(command.help).partition("\n")[0]
        assert sentence.endswith(".")
        assert sentence in shown


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_the_help_are_commands(verb: str) -> None:
    shown = run_errorcast(verb, "--help", COLUMNS="200").out
    lines = [line.strip() for line in shown.splitlines()]
    examples = [line for line in lines if line.startswith("errorcast ")]
    assert examples
    for line in examples:
        Command.parse(shlex.split(line))
    assert any(line.split()[1] == verb for line in examples)


def test_forced_colours_in_a_pipe_move_no_cursor() -> None:
    done = run_errorcast("summary", "digits", "--set", "options.width=64", FORCE_COLOR="1")
    assert done.code == 0, done.err
    assert "\x1b[1m" in done.out
    assert "\r" not in done.out
    assert not re.search(r"\x1b\[\??[0-9;]*[A-LN-Za-ln-z]", done.out)  # of all, m alone is a colour


def assert_plain(done: Result, columns: int) -> None:
    """No escapes, no Traceback, and tables of the width."""
    for shown in (done.out, done.err):
        assert not {"\r", "\x1b"} & {*shown}
        assert "Traceback" not in shown
    for line in done.out.splitlines():
        assert "  " not in line.strip() or cell_len(line) <= columns, line


@pytest.mark.parametrize(
    ("case", "around"), [(case, name) for case, of_case in CASES.items() for name in of_case[2]]
)
def test_a_verb_prints_plain_text(case: str, around: str, folder: Path) -> None:
    arguments, code, _ = CASES[case]
    done = run_errorcast(*arguments, cwd=folder, **AROUND[around])
    assert done.code == code, done.err
    assert_plain(done, int(AROUND[around].get("COLUMNS", TERMINAL["COLUMNS"])) or 80)
    if around == "ASCII" and case in NAMED:
        assert "gr\\xf6\\xdfe" in done.out + done.err


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.ray if case == "train" else pytest.mark.endurance)
        for case in HEAVY
    ],
)
def test_a_heavy_verb_prints_ascii(a_ray: None, case: str, folder: Path) -> None:
    arguments = HEAVY[case]
    arguments += ["--out", "größe 大/compared", "--seeds", "1"] if case == "compare" else []
    done = run_errorcast(*arguments, cwd=folder, encoding="ascii", COLUMNS="80")
    assert done.code == 0, done.err
    assert_plain(done, 80)
    assert "gr\\xf6\\xdfe" in done.out + done.err
    assert ("+-" in done.out) == (case == "compare")


REAL: Mapping[str, Mapping[str, str]] = {
    "no colour": {"NO_COLOR": "1", "LANG": "C.UTF-8"},
    "dumb": {"TERM": "dumb", "LANG": "C.UTF-8", "COLUMNS": "60"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
}


def on_a_terminal(words: Sequence[str], cwd: Path, around: Mapping[str, str]) -> tuple[int, str]:
    """Run the real script with a pseudo-terminal; its standard input is closed."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 4096):
                shown.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "80", **around}
    run = subprocess.Popen(
        [str(ERRORCAST), *words],
        cwd=cwd,
        env=environment,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: os.close(0),  # noqa: PLW1509
    )
    os.close(theirs)
    code = run.wait(timeout=60)
    reader.join(timeout=10)
    os.close(ours)
    return code, b"".join(shown).decode()


@pytest.mark.blocks
@pytest.mark.parametrize("around", REAL)
def test_the_real_script_on_terminals_of_all_kinds(around: str, tmp_path: Path) -> None:
    words = ["user", "alice", "--users", "größe-→.yaml", "--token-file", "alice.token"]
    code, shown = on_a_terminal(words, tmp_path, REAL[around])
    assert (code, "added the user alice" in shown) == (0, True), shown
    code, shown = on_a_terminal(["leaderboard", "--help"], tmp_path, REAL[around])
    assert code == 0, shown
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(cell_len, lines)) <= int(REAL[around].get("COLUMNS", "80"))
    assert shown.isascii() == (around in ("C", "ascii"))
    assert not re.search(r"\x1b\[[0-9;]*3\d", shown) or around not in ("no colour", "dumb")
