"""Texts, tokens, and Transformers against what they should be."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coordinator.job.resolve import resolve
from dfa_core import FeedbackSpec, JobError, LearningRule, Reference
from dfa_core.rule import ErrorAt
from dfa_tasks.language.corpora import Chunks, prepared
from dfa_tasks.language.tasks import token_loss
from dfa_tasks.language.text import BytePairs, Characters, lines_of, load_tokenizer
from dfa_tasks.language.transformer import Attention, AttentionKind, Points, transformer

KINDS: tuple[AttentionKind, ...] = ("standard", "fixed", "dense", "random")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ERRORCAST_CACHE", str(tmp_path / "cache"))
    prepared.cache_clear()
    return tmp_path


def test_tiny_shakespeare_as_it_is(real_data: Path, cache: Path) -> None:
    """The sizes that nanoGPT's preparation gives: 65 characters, 1,003,854 and 111,540 tokens."""
    made, parts = prepared("tiny-shakespeare", str(real_data))
    tokenizer = load_tokenizer(made)
    assert tokenizer.size == 65
    assert {name: len(tokens) for name, tokens in parts.items()} == {
        "train": 1_003_854, "test": 111_540,
    }  # fmt: skip
    text = (real_data / "tiny-shakespeare" / "input.txt").read_text(encoding="utf-8")
    joined = [*parts["train"][-50:], *parts["test"][:50]]
    assert tokenizer.decode(joined) == text[1_003_804:1_003_904]
    before = sorted((cache / "cache").iterdir())
    prepared.cache_clear()
    prepared("tiny-shakespeare", str(real_data))
    assert sorted((cache / "cache").iterdir()) == before


def test_wikitext_is_read_in_byte_pairs(real_data: Path, cache: Path) -> None:
    there = cache / "wikitext-2"
    there.mkdir()
    valid = (real_data / "wikitext-2" / "valid.txt").read_text(encoding="utf-8")
    lines = valid.splitlines(keepends=True)
    (there / "train.txt").write_text("".join(lines[:600]), encoding="utf-8")
    for name in ("valid.txt", "test.txt"):
        (there / name).write_text("".join(lines[600:700]), encoding="utf-8")
    made, parts = prepared("wikitext-2", str(cache))
    tokenizer = load_tokenizer(made)
    assert list(map(len, (parts["validation"], parts["test"]))) == [len(parts["test"])] * 2
    assert tokenizer.decode(parts["test"].tolist()) == "".join(lines[600:700])
    assert 2000 < tokenizer.size <= 8000
    assert len(parts["train"]) < len("".join(lines[:600])) / 3


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"To be\nor not \xff\n", r"input\.txt, line 2: is not UTF-8"),
        (b"", r"input\.txt: is empty"),
        (
            b"To be, or not to be, that is the question.",
            r"train: 37 tokens are too few for a chunk",
        ),
    ],
    ids=["not UTF-8", "empty", "short"],
)
def test_a_text_that_cannot_be_learned_is_named(cache: Path, content: bytes, what: str) -> None:
    (cache / "input.txt").write_bytes(content)
    with pytest.raises(JobError, match=what):
        resolve("tiny-shakespeare", {"data_dir": str(cache)}).task.splits()
    kept = cache / "cache"
    assert not list(kept.glob(".*.unfinished")) if kept.exists() else True


def test_tokenizers_come_back_as_they_were() -> None:
    lines = ["To be, or not to be:\n", "that is the question \N{GREEK SMALL LETTER PSI}\n"]
    for tokenizer in (Characters.of(lines), BytePairs.of(iter(lines), 300)):
        again = load_tokenizer(tokenizer.to_json())
        for line in lines:
            assert again.encode(line) == tokenizer.encode(line)
            assert again.decode(again.encode(line)) == line
    with pytest.raises(JobError, match="does not know the character '!'"):
        Characters.of(lines).encode("To be!")
    for broken in ("", "{}", "[1]", "no"):
        with pytest.raises(JobError, match="this is not a tokenizer"):
            load_tokenizer(broken)


def test_lines_keep_their_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n\nthree")
    assert list(lines_of(tmp_path / "a.txt")) == ["one\r\n", "two\n", "\n", "three"]


def test_chunks_predict_what_follows() -> None:
    chunks = Chunks(np.arange(11, dtype=np.uint16), 5, "text")
    assert len(chunks) == 2
    x, target = chunks[1]
    assert (x.tolist(), target.tolist()) == ([5, 6, 7, 8, 9], [6, 7, 8, 9, 10])


def test_chunks_of_a_mapped_file_travel_as_its_name(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    np.arange(10_000, dtype=np.uint16).tofile(file)
    tokens = np.memmap(file, np.uint16, "r")
    whole, part = Chunks(tokens, 5, "text"), Chunks(tokens[:50], 5, "text")
    pickled = pickle.dumps(whole)
    assert len(pickled) < 500
    for chunks in (whole, part):
        again = pickle.loads(pickle.dumps(chunks))  # noqa: S301  # its own
        assert len(again) == len(chunks)
        assert torch.equal(again[3][0], chunks[3][0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm_first", [True, False])
def test_no_token_sees_a_later_one(kind: AttentionKind, norm_first: bool) -> None:
    model = transformer(
        11, length=6, blocks=2, width=8, heads=2, hidden=16, attention=kind, norm_first=norm_first
    )
    reference = Reference(model, token_loss, LearningRule())
    tokens = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 4] = (other[:, 4] + 1) % 11
    before, after = (reference.evaluate(x) for x in (tokens, other))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize(("option", "near"), [("points", "block"), ("attention", "standard")])
def test_a_misspelt_choice_is_named(option: str, near: str) -> None:
    with pytest.raises(JobError, match=rf"options\.{option}: unknown '{near}x'; .*{near}"):
        transformer(11, **{option: f"{near}x"})  # type: ignore[arg-type]


def test_standard_attention_is_its_formula() -> None:
    torch.manual_seed(0)
    attention = Attention("standard", 8, 2, length=5, dropout=0.0)
    x = torch.randn(3, 5, 8)
    query, key, values = attention.values(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / 2
    scores = scores.masked_fill(torch.ones(5, 5).triu(1) > 0, float("-inf"))
    wanted = attention.out((scores.softmax(-1) @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x), wanted, atol=1e-5)


def test_a_fixed_synthesizer_does_not_learn_its_scores() -> None:
    names = {
        kind: {n for n, p in Attention(kind, 8, 2, 5, 0.0).named_parameters() if p.requires_grad}
        for kind in KINDS
    }
    assert names["random"] - names["fixed"] == {"scores"}


@pytest.mark.parametrize(
    ("points", "layers"), [("block", 2), (1, 2), (2, 1), ("sublayer", 4), ("micro", 6)]
)
def test_the_points_cut_the_same_network(points: Points, layers: int) -> None:
    torch.manual_seed(0)
    options = {"length": 6, "blocks": 2, "width": 8, "heads": 2, "hidden": 16, "dropout": 0.0}
    models = [
        transformer(11, points="block", **options),  # type: ignore[arg-type]
        transformer(11, points=points, **options),  # type: ignore[arg-type]
    ]
    whole, cut = (Reference(model, token_loss, LearningRule()) for model in models)
    assert len(cut.layers) == layers
    # by shape and order of definition: norms come at other places
    for kind in (nn.Embedding, nn.Linear, nn.LayerNorm):
        found = [
            [
                m
                for trained in one.trained_modules()
                for m in trained.module.modules()
                if isinstance(m, kind)
            ]
            for one in (whole, cut)
        ]
        for a, b in zip(*found, strict=True):
            b.load_state_dict(a.state_dict())
    tokens = torch.randint(0, 11, (3, 6))
    assert torch.allclose(whole.evaluate(tokens), cut.evaluate(tokens), atol=1e-6)


@pytest.mark.parametrize("points", [0, 3, 5])
def test_points_must_divide_the_blocks(points: int) -> None:
    with pytest.raises(JobError, match=f"options.points: {points} does not divide the 4 blocks"):
        transformer(11, blocks=4, points=points)


def test_the_error_after_the_vocabulary(real_data: Path, cache: Path) -> None:
    given = {"data_dir": str(real_data), "options": {"error_at": "output"}}
    job = resolve("tiny-shakespeare", {**given, "feedback": {"kind": "random"}})
    assert job.rule(1).error_at == "output"
    with pytest.raises(JobError, match="options.error_at: 'behind' must be input or output"):
        resolve("tiny-shakespeare", {**given, "options": {"error_at": "behind"}})


@pytest.mark.parametrize(("points", "at"), [("block", "input"), ("sublayer", "input")])
def test_identity_feedback_teaches_the_last_layer_exactly(points: Points, at: ErrorAt) -> None:
    """What the residual stream's last layer learns by it is its gradient: nothing is behind it."""
    model = transformer(11, length=6, blocks=2, width=8, heads=2, hidden=16, points=points)
    rule = LearningRule(error_at=at, sample_dims=2, feedback=FeedbackSpec(kind="identity"))
    x = torch.randint(0, 11, (3, 6), generator=torch.Generator().manual_seed(0))
    gradients = []
    for method in ("dfa", "bp"):
        reference = Reference(model, token_loss, replace(rule, method=method))  # type: ignore[arg-type]
        reference.add_gradients(0, x, x.roll(-1))
        gradients.append([p.grad for p in reference.layers[-1].parameters.values()])
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, atol=1e-6)
