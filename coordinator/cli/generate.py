"""`errorcast generate`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import DataDir

Option = typer.Option


def generate(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run of a language task.")],
    prompt: Annotated[str, Option(help="Text to continue.")] = "\n",
    tokens: Annotated[int, Option(help="Number of tokens to add.", min=1)] = 300,
    temperature: Annotated[
        float,
        Option(
            help="Values below 1 prefer likely tokens; 0 always takes the likeliest one.", min=0.0
        ),
    ] = 0.8,
    seed: Annotated[int, Option(help="Seed of the draws; the same seed gives the same text.")] = 0,
    data_dir: DataDir = None,
) -> None:
    """Continue a text with a trained language model.

    Examples:
        errorcast generate runs/my-run
        errorcast generate runs/my-run --prompt "To be" --tokens 100 --temperature 0.5
    """
    from coordinator.cli.warnings import show_warnings
    from coordinator.inspection.generation import continue_text
    from coordinator.inspection.saved_run import open_run
    from dfa_core import JobError
    from dfa_tasks.language.text import load_tokenizer

    path = run_dir / "tokenizer.json"
    if not path.is_file():
        raise JobError(f"{run_dir}: is not a run of a language task (there is no {path.name})")
    tokenizer = load_tokenizer(path.read_text(encoding="utf-8"))
    run = open_run(run_dir, data_dir)
    show_warnings(run.warnings)
    print(prompt, end="", flush=True)
    for text in continue_text(run, tokenizer, prompt, tokens, temperature, seed):
        print(text, end="", flush=True)
    print()
