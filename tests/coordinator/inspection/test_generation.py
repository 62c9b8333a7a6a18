"""`errorcast generate`: a language model continues a text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command_line import run_errorcast
from support.in_process import train_here

from coordinator import train
from coordinator.inspection.generation import continue_text
from coordinator.inspection.saved_run import open_run
from dfa_core import JobError
from dfa_tasks.language.corpora import prepared
from dfa_tasks.language.text import load_tokenizer

VERSE = "abcdefghijklmnopqrstuvwxyz\n"
SETTINGS: dict[str, Any] = {
    "options": {
        "length": 16,
        "blocks": 2,
        "width": 32,
        "heads": 2,
        "hidden": 64,
        "points": "block",
    },
    "batch_size": 16,
    "epochs": 15,
    "optimizer": {"lr": 0.01, "warmup_steps": 10},
    "blocks": 2,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that knows the alphabet by heart."""
    folder = tmp_path_factory.mktemp("alphabet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ERRORCAST_CACHE", str(folder / "cache"))
        prepared.cache_clear()
        (folder / "input.txt").write_text(VERSE * 200, encoding="utf-8")
        train_here("tiny-shakespeare", run_dir=folder / "run", data_dir=str(folder), **SETTINGS)
        yield folder / "run"


@pytest.mark.trains
@pytest.mark.timeout(240)
def test_a_model_continues_with_what_it_learned(trained: Path) -> None:
    arguments = ("generate", str(trained), "--prompt", "abcdefgh", "--tokens", "60")
    done = run_errorcast(*arguments, "--temperature", "0")
    assert done.code == 0, done.err
    assert done.out == (VERSE * 3)[:68] + "\n"
    texts = []
    for seed in ("1", "1", "2"):
        done = run_errorcast(*arguments, "--temperature", "3", "--seed", seed)
        assert done.code == 0, done.err
        texts.append(done.out)
    assert texts[0] == texts[1] != texts[2]
    done = run_errorcast(*arguments[:2], "--prompt", "THE")
    assert done.code == 2
    assert "errorcast: the model does not know the character 'T'" in done.err
    result = json.loads((trained / "result.json").read_text())["metrics"]
    assert result["perplexity"] == pytest.approx(2.718281828 ** result["loss"])
    assert result["perplexity"] < 1.5


@pytest.mark.trains
@pytest.mark.timeout(240)
def test_a_run_keeps_its_tokenizer(trained: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer((trained / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer.decode(tokenizer.encode(VERSE)) == VERSE
    with pytest.raises(JobError, match="--prompt: is empty"):
        next(continue_text(open_run(trained), tokenizer, "", 1, 1.0, 0))
    (tmp_path / "input.txt").write_text(VERSE.upper() * 200, encoding="utf-8")
    with pytest.raises(
        JobError, match=r"tokenizer\.json: differs from the one that the data gives now"
    ):
        train("tiny-shakespeare", run_dir=trained, resume=True, data_dir=str(tmp_path), **SETTINGS)


def test_other_runs_have_nothing_to_say(digits_run: Path) -> None:
    done = run_errorcast("generate", str(digits_run))
    assert done.code == 2
    assert "is not a run of a language task" in done.err
