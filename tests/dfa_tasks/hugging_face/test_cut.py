"""Models of the transformers library, cut into layers and a head, compute what they computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.transformers_models import BERT, GPT2, LLAMA, MAIN, OTHERS, answer, inputs
from torch import Tensor, nn

from dfa_core import JobError, Model
from dfa_tasks import Splits, Task
from dfa_tasks.hugging_face.model import cut, from_config, is_transformers, save_pretrained

ALL = {**MAIN, **OTHERS}
NONE = Splits([], [])  # type: ignore[arg-type]


def chained(model: Model, x: Tensor, seed: int = 0) -> Tensor:
    parts = [model.build_layer(index, seed) for index in range(len(model.layers))]
    h: Any = (x,)
    with torch.no_grad():
        for part in [*parts, model.build_head(seed)]:
            out = part.eval()(*h)
            h = out if isinstance(out, tuple) else (out,)
    found: Tensor = h[0]
    return found


def own_weights(model: Model, seed: int = 0) -> dict[str, Tensor]:
    built = {f"layers.{i}": model.build_layer(i, seed) for i in range(len(model.layers))}
    built["head"] = model.build_head(seed)
    return {
        model.names[f"{place}.{name}"][0]: tensor
        for place, module in built.items()
        for name, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize("name", ALL)
def test_a_cut_model_computes_what_the_whole_does(name: str) -> None:
    of, config = ALL[name]
    torch.manual_seed(0)
    whole = of(config)
    model = cut(whole)
    x = inputs(name)
    torch.testing.assert_close(chained(model, x), answer(whole, x))
    assert set(own_weights(model)) == set(whole.state_dict())


@pytest.mark.parametrize("name", [*MAIN, "bert, masked", "gemma2", "modernbert", "mixtral"])
def test_a_model_from_a_config_is_initialised_by_the_library_piece_by_piece(
    name: str, tmp_path: Path
) -> None:
    of, config = ALL[name]
    model = from_config(of, config)
    weights = own_weights(model)
    save_pretrained(model, weights, tmp_path / "saved")
    there = of.from_pretrained(tmp_path / "saved", local_files_only=True)
    x = inputs(name)
    torch.testing.assert_close(chained(model, x), answer(there, x))
    torch.manual_seed(1)
    fresh = of(config).state_dict()
    for key, tensor in weights.items():  # as the library draws them, with other numbers
        spread, expected = float(tensor.std()), float(fresh[key].float().std())
        if tensor.numel() >= 100 and key not in (model.tied or ()):
            assert spread == pytest.approx(expected, rel=0.3, abs=1e-6), key
    assert not torch.equal(chained(model, x), chained(model, x, seed=1))


def test_a_tied_head_starts_like_the_embedding_and_is_a_weight_of_its_own() -> None:
    torch.manual_seed(0)
    whole = transformers.GPT2LMHeadModel(GPT2)
    model = cut(whole)
    embedding, head = model.build_layer(0, 0), model.build_head(0)
    ours, theirs = dict(embedding.named_parameters()), dict(head.named_parameters())
    table, maps = ours["model.transformer.wte.weight"], theirs["model.lm_head.weight"]
    assert torch.equal(table, maps)
    assert table.data_ptr() != maps.data_ptr()
    assert model.config.tie_word_embeddings is False
    assert whole.config.tie_word_embeddings is True  # what was given stays as it is
    assert whole.lm_head.weight is whole.transformer.wte.weight


@pytest.mark.parametrize(("of", "config"), [MAIN["bert"], MAIN["gpt2"], MAIN["llama"]])
def test_no_token_attends_to_padding(of: Any, config: Any) -> None:
    torch.manual_seed(0)
    whole, pad = of(config), 0
    x = inputs("text")
    x[0, :3] = pad
    expected = answer(whole, x, attention_mask=(x != pad).long())
    found = chained(cut(whole, pad=pad), x)
    kept = (x != pad) if expected.dim() == 3 else ...
    torch.testing.assert_close(found[kept], expected[kept])
    assert not torch.allclose(found[kept], answer(whole, x)[kept])


def test_pieces_hold_their_own_weights_alone() -> None:
    model = cut(transformers.LlamaForCausalLM(LLAMA))
    blocks = [model.build_layer(index, 0) for index in range(1, 4)]
    names = {name for block in blocks for name, _ in block.named_parameters()}
    assert all(name.startswith("block.") for name in names)
    sizes = {sum(p.numel() for p in block.state_dict().values()) for block in blocks}
    assert len(sizes) == 1
    whole = sum(p.numel() for p in transformers.LlamaForCausalLM(LLAMA).parameters())
    assert sum(p.numel() for p in own_weights(model).values()) == whole


def test_a_block_draws_the_same_numbers_with_a_context_that_it_kept() -> None:
    torch.manual_seed(0)
    block = cut(transformers.BertForSequenceClassification(BERT)).build_layer(1, 0)
    h, found = torch.randn(2, 7, 32), []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(block(h))
    assert block.block.training
    assert torch.equal(*found)


def test_models_that_cannot_be_cut_are_refused_with_their_name() -> None:
    two = transformers.T5Config(d_model=32, num_layers=2, num_heads=4, vocab_size=50)
    with pytest.raises(JobError, match=r"T5For.* has 2 stacks of blocks .*layers_of="):
        cut(transformers.T5ForConditionalGeneration(two))
    shared = transformers.AlbertConfig(
        vocab_size=50, hidden_size=32, num_attention_heads=4, intermediate_size=64
    )
    with pytest.raises(JobError, match=r"Albert.* has 0 stacks of blocks"):
        cut(transformers.AlbertForSequenceClassification(shared))


@pytest.mark.parametrize("name", ["Deberta", "RoFormer", "Longformer"])
def test_what_depends_on_positions_or_tokens_alone_is_noticed(name: str) -> None:
    config = getattr(transformers, f"{name}Config")(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    torch.manual_seed(0)
    with pytest.raises(JobError, match=rf"{name}.* cut .* layers_of="):
        cut(getattr(transformers, f"{name}ForSequenceClassification")(config))


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_a_head_of_the_last_token_looks_past_the_padding(name: str) -> None:
    """The library finds that token in the ids, which the head does not have."""
    torch.manual_seed(0)
    config = {**{"GPT2": GPT2, "Llama": LLAMA}[name].to_dict(), "pad_token_id": 0}
    of = getattr(transformers, f"{name}ForSequenceClassification")
    whole, x = of(of.config_class(**config)), inputs("text")
    x[0, 4:] = 0
    expected = answer(whole, x, attention_mask=(x != 0).long())
    torch.testing.assert_close(chained(cut(whole, pad=0), x), expected)
    assert chained(from_config(of, whole.config, pad=0), x).shape == expected.shape
    with pytest.raises(JobError, match=r"computes something else .* cut\(model, pad="):
        cut(whole)


class _Around(transformers.BertForSequenceClassification):
    """Adds to its output what goes past the blocks."""

    def forward(self, input_ids: Tensor, **more: Any) -> Any:
        out = super().forward(input_ids, **more)
        out.logits = out.logits + self.bert.embeddings.word_embeddings(input_ids).mean()
        return out


def test_what_goes_past_the_blocks_is_noticed() -> None:
    torch.manual_seed(0)
    with pytest.raises(JobError, match="_Around computes something else when it is cut"):
        cut(_Around(BERT))


def test_a_task_takes_such_a_model_as_it_is() -> None:
    torch.manual_seed(0)
    whole = transformers.BertForSequenceClassification(BERT)
    task = Task(whole, nn.functional.cross_entropy, NONE)
    assert is_transformers(whole)
    assert isinstance(task.model, Model)
    assert (task.error_at, task.sample_dims) == ("input", 2)
    assert task.defaults["feedback"] == {"kind": "identity"}
    random = Task(
        whole, nn.functional.cross_entropy, NONE, defaults={"feedback": {"kind": "random"}}
    )
    assert (random.error_at, random.sample_dims) == ("output", 1)


def test_settings_that_pieces_cannot_have_are_refused() -> None:
    model = transformers.GPT2LMHeadModel(GPT2)
    model.gradient_checkpointing_enable()
    with pytest.raises(JobError, match=r"gradient_checkpointing_disable\(\)"):
        cut(model)
    dropping = transformers.OPTConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64,
        word_embed_proj_dim=32, layerdrop=0.1,
    )  # fmt: skip
    with pytest.raises(JobError, match="set layerdrop to 0"):
        cut(transformers.OPTForCausalLM(dropping))
    of, config = MAIN["vit"]
    with pytest.raises(JobError, match="takes pixel_values, and padding is for token ids"):
        cut(of(config), pad=0)
