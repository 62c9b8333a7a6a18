"""GPT-2 of the transformers library as it is, on Tiny Shakespeare's characters.

errorcast train docs/examples/gpt2.py:make_task
"""

from functools import partial

from errorcast import Splits, Task
from transformers import GPT2Config, GPT2LMHeadModel

from dfa_tasks.hugging_face import from_config
from dfa_tasks.language.corpora import Chunks, prepared
from dfa_tasks.language.tasks import token_accuracy, token_loss
from dfa_tasks.language.text import load_tokenizer


def data(data_dir: str, length: int) -> Splits:
    """Return chunks of `length` characters; the target is the same chunk one character later."""
    _, splits = prepared("tiny-shakespeare", data_dir)
    return Splits(**{name: Chunks(tokens, length, name) for name, tokens in splits.items()})


def make_task(data_dir: str = "", length: int = 64, layers: int = 4, width: int = 128) -> Task:
    """Return a small GPT-2; each worker builds its own blocks alone."""
    tokenizer = load_tokenizer(prepared("tiny-shakespeare", data_dir)[0])
    config = GPT2Config(
        vocab_size=tokenizer.size,
        n_positions=length,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return Task(
        model=from_config(GPT2LMHeadModel, config),
        loss=token_loss,
        metrics={"accuracy": token_accuracy},
        data=partial(data, data_dir, length),
        evaluated_at_once=64,
        files={"tokenizer.json": tokenizer.to_json()},
        defaults={
            "batch_size": 32,
            "epochs": 1,
            "optimizer": {"name": "adamw", "lr": 3e-3, "clip_norm": 1.0, "schedule": "cosine"},
        },
    )
