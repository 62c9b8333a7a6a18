"""`causal-lm`: a language model of the transformers library, and a text of the user's."""

import math
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from dfa_core import JobError
from dfa_tasks.hugging_face.library import causal_class, config_in, tokenizer_files
from dfa_tasks.hugging_face.model import check_causal, from_config
from dfa_tasks.language.corpora import Chunks
from dfa_tasks.language.tasks import samples_at_once, token_accuracy, token_loss
from dfa_tasks.language.text import Tokenizer, lines_of, load_tokenizer
from dfa_tasks.task import Installed, Splits, Task

_LENGTH = 128
_LINES = 1000  # that are encoded together
_TEST_SHARE = 10  # of a text in one file, one tenth at its end is for testing


def causal_lm(model: str = "", text: str = "", length: int | None = None) -> Task:
    """Return a causal language model that continues a text.

    model: folder with config.json and a tokenizer, as save_pretrained() of transformers writes it.
        Weights come from the job's `init`; without, they start as the library initialises them.
    text: a file, of which the last tenth is for testing, or a folder with train.txt and test.txt,
        and valid.txt if there is one.
    length: tokens of a sample; by default 128, or the most that the model takes.

    Raises JobError for files that are missing or do not fit.
    """
    if not model or not text:
        raise JobError(
            "task causal-lm needs options.model (a folder with config.json and tokenizer.json) and "
            "options.text (a text file, or a folder with train.txt and test.txt)"
        )
    folder, place = Path(model).expanduser(), Path(text).expanduser()
    config = config_in(folder)
    files = tokenizer_files(folder if folder.is_dir() else folder.parent)
    encoded = files["tokenizer.json"]
    tokenizer, words = load_tokenizer(encoded), config.get_text_config().vocab_size
    if tokenizer.size > words:
        raise JobError(
            f"options.model: the tokenizer has {tokenizer.size:,} tokens and the model {words:,}; "
            f"are both of the same model?"
        )
    longest = getattr(config, "max_position_embeddings", None) or length or _LENGTH
    length = min(_LENGTH, longest) if length is None else length
    if not 1 <= length <= longest:
        raise JobError(f"options.length: {length} must be from 1 to the model's {longest}")
    of = causal_class(config)
    check_causal(of, config)
    return Task(
        model=from_config(of, config),
        loss=token_loss,
        data=partial(_splits, place, encoded, length),
        metrics={"accuracy": token_accuracy},
        derived_metrics={"perplexity": math.exp},
        evaluated_at_once=samples_at_once(length, words),
        files=files,
        defaults={
            "batch_size": 16,
            "epochs": 3,
            "optimizer": {
                "name": "adamw",
                "lr": 3e-4,
                "clip_norm": 1.0,
                "schedule": "cosine",
                "warmup_steps": 20,
            },
        },
    )


def _splits(place: Path, encoded: str, length: int) -> Splits:
    tokenizer = load_tokenizer(encoded)
    if place.is_file():
        tokens = _tokens(place, tokenizer)
        cut = len(tokens) - len(tokens) // _TEST_SHARE
        return Splits(
            Chunks(tokens[:cut], length, f"the training part of {place}"),
            Chunks(tokens[cut:], length, f"the test part of {place}"),
        )
    if not place.is_dir():
        raise JobError(f"options.text: there is no file or folder {place}")
    names = {"train": "train.txt", "test": "test.txt", "validation": "valid.txt"}
    found = {name: place / file for name, file in names.items() if (place / file).is_file()}
    missing = [names[name] for name in ("train", "test") if name not in found]
    if missing:
        raise JobError(f"options.text: {place} holds no {missing[0]}")
    return Splits(
        **{name: Chunks(_tokens(p, tokenizer), length, str(p)) for name, p in found.items()}
    )


def _tokens(path: Path, tokenizer: Tokenizer) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Return the tokens of a text; lines are encoded in groups, to bound the memory."""
    lines, parts = lines_of(path), []
    while group := "".join(islice(lines, _LINES)):
        parts.append(np.asarray(tokenizer.encode(group), np.int32))
    return np.concatenate(parts)


INSTALLED = {
    "causal-lm": Installed(
        causal_lm,
        "a language model of the transformers library (options.model) and your text (options.text)",
    )
}
