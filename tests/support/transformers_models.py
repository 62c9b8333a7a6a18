"""Tiny models of the transformers library: one config each."""

from typing import Any

import torch
import transformers
from torch import Tensor

WORDS, SIZE = 50, 16  # vocabulary; pixels of an image


def _text(config: Any, **more: Any) -> Any:
    return config(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, bos_token_id=1, eos_token_id=1, **more,
    )  # fmt: skip


def _image(config: Any, **more: Any) -> Any:
    return config(
        image_size=SIZE, patch_size=4, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, **more,
    )  # fmt: skip


T: Any = transformers
GPT2 = T.GPT2Config(
    vocab_size=WORDS, n_positions=32, n_embd=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=1
)
LLAMA = _text(T.LlamaConfig, num_key_value_heads=2)
BERT = _text(T.BertConfig, num_labels=3)
VIT = _image(T.ViTConfig, num_labels=5)
MAIN = {
    "gpt2": (T.GPT2LMHeadModel, GPT2),
    "llama": (T.LlamaForCausalLM, LLAMA),
    "bert": (T.BertForSequenceClassification, BERT),
    "vit": (T.ViTForImageClassification, VIT),
}
OTHERS = {
    "llama, tied": (
        T.LlamaForCausalLM,
        _text(T.LlamaConfig, num_key_value_heads=2, tie_word_embeddings=True),
    ),
    "bert, masked": (T.BertForMaskedLM, _text(T.BertConfig)),
    "bert, questions": (T.BertForQuestionAnswering, _text(T.BertConfig)),
    "bert, tokens": (T.BertForTokenClassification, _text(T.BertConfig, num_labels=4)),
    "gpt2, classes": (T.GPT2ForTokenClassification, GPT2),
    "mistral": (
        T.MistralForCausalLM,
        _text(T.MistralConfig, num_key_value_heads=2, sliding_window=3),
    ),
    "qwen3": (T.Qwen3ForCausalLM, _text(T.Qwen3Config, num_key_value_heads=2, head_dim=8)),
    "gemma2": (T.Gemma2ForCausalLM, _text(T.Gemma2Config, num_key_value_heads=2, head_dim=8)),
    "opt": (
        T.OPTForCausalLM,
        T.OPTConfig(
            vocab_size=WORDS, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
            ffn_dim=64, word_embed_proj_dim=32,
        ),
    ),
    "bloom": (
        T.BloomForCausalLM,
        T.BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=3, n_head=4),
    ),
    "neox": (T.GPTNeoXForCausalLM, _text(T.GPTNeoXConfig)),
    "mixtral": (
        T.MixtralForCausalLM,
        _text(T.MixtralConfig, num_key_value_heads=2, num_local_experts=2),
    ),
    "roberta": (T.RobertaForSequenceClassification, _text(T.RobertaConfig)),
    "distilbert": (
        T.DistilBertForSequenceClassification,
        T.DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=3, n_heads=4, hidden_dim=64),
    ),
    "modernbert": (
        T.ModernBertForMaskedLM,
        _text(T.ModernBertConfig, pad_token_id=0, cls_token_id=1, sep_token_id=2),
    ),
    "deit": (T.DeiTForImageClassification, _image(T.DeiTConfig)),
    "beit": (T.BeitForImageClassification, _image(T.BeitConfig)),
    "mamba": (
        T.MambaForCausalLM,
        T.MambaConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=3),
    ),
}  # fmt: skip


def inputs(name: str, samples: int = 2, seed: int = 0) -> Tensor:
    """Token ids, (n, 7), without the padding's; or images, (n, 3, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    if name in ("vit", "deit", "beit"):
        return torch.randn(samples, 3, SIZE, SIZE, generator=generator)
    return torch.randint(2, WORDS, (samples, 7), generator=generator)


def answer(model: Any, x: Tensor, **more: Any) -> Tensor:
    """What the library's model says."""
    with torch.no_grad():
        out = model.eval()(x, **more)
    if "start_logits" in out:
        return torch.stack([out.start_logits, out.end_logits], dim=-1)
    logits: Tensor = out.logits
    return logits
