"""A language model of the transformers library: fine-tuned, continued, exported, loaded again."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from support.command_line import run_errorcast
from support.in_process import train_here
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.utils.data import TensorDataset

from coordinator.job.resolve import resolve
from coordinator.training.first_weights import first_model
from dfa_core import JobError
from dfa_tasks import Splits, Task

VERSE = "abcdefghijklmnopqrstuvwxyz\n"
LENGTH, END = 16, "<e>"


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and its tokenizer, as save_pretrained() leaves it, and a text."""
    folder = tmp_path_factory.mktemp("tiny") / "gpt2"
    encoding = Tokenizer(models.BPE())
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    encoding.train_from_iterator(
        [VERSE],
        trainers.BpeTrainer(vocab_size=258, initial_alphabet=alphabet, special_tokens=[END]),
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=encoding, eos_token=END).save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=300, n_positions=32, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder.parent / "text.txt").write_text(VERSE * 150, encoding="utf-8")
    return folder


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_local_model_is_fine_tuned_generates_and_is_loaded_again(
    a_ray: None, tiny_gpt2: Path, tmp_path: Path
) -> None:
    home = tiny_gpt2.parent
    done = run_errorcast(
        "train", "causal-lm", "--set", "options.model=gpt2", "--set", "options.text=text.txt",
        "--set", f"options.length={LENGTH}", "--init", "gpt2", "--frozen", "transformer.wpe.*",
        "--blocks", "2", "--epochs", "12", "--set", "optimizer.lr=0.01",
        "--run-dir", str(tmp_path / "run"), cwd=home,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "init: 29 of 29 weights start from" in done.out.replace("\n", "")
    assert "layer 1 (GPT2Block)" in done.out
    before, run = load_file(tiny_gpt2 / "model.safetensors"), tmp_path / "run"
    after = load_file(run / "model.safetensors")
    assert torch.equal(
        after["layers.0.model.transformer.wpe.weight"], before["transformer.wpe.weight"]
    )
    assert not torch.equal(
        after["layers.0.model.transformer.wte.weight"], before["transformer.wte.weight"]
    )

    done = run_errorcast(
        "generate", "run", "--prompt", "abcdefgh", "--tokens", "8", "--temperature", "0",
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.code, done.out) == (0, "abcdefghijklmnop\n"), done.err

    arguments = ("export", "run", "--format", "transformers", "-o", "out")
    done = run_errorcast(*arguments, cwd=tmp_path)
    assert done.code == 0, done.err
    assert run_errorcast(*arguments, cwd=tmp_path).code == 2  # it is there already
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("abcdefgh", return_tensors="pt").input_ids
    longer = loaded.generate(ids, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(longer[0]) == "abcdefghijklmnop"
    assert (tokenizer.eos_token, loaded.config.tie_word_embeddings) == (END, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "none", "text": "text.txt"}, "options.model: there is no none"),
        ({"model": "gpt2"}, "task causal-lm needs options.model"),
        ({"model": "gpt2", "text": "text.txt", "length": 33}, "must be from 1 to the model's 32"),
        ({"model": "text.txt", "text": "text.txt"}, "text.txt is no configuration of a model"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tiny_gpt2.parent)
    with pytest.raises(JobError, match=message):
        resolve("causal-lm", {"options": options})


def test_a_model_that_sees_later_tokens_is_no_causal_one(
    tiny_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_decoder in (False, True):
        config = transformers.BertConfig(
            vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, is_decoder=is_decoder,
        )  # fmt: skip
        folder = tmp_path / f"bert-{is_decoder}"
        shutil.copytree(tiny_gpt2, folder)
        config.save_pretrained(folder)
    monkeypatch.chdir(tiny_gpt2.parent)
    options = {"model": str(tmp_path / "bert-True"), "text": "text.txt"}
    assert len(resolve("causal-lm", {"options": options}).model.layers) == 3
    options["model"] = str(tmp_path / "bert-False")
    with pytest.raises(JobError, match="BertLMHeadModel .* looks at later tokens"):
        resolve("causal-lm", {"options": options})


def test_without_the_library_it_says_what_to_install(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_gpt2.parent)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(JobError, match=r"pip install 'errorcast\[hf\]'"):
        resolve("causal-lm", {"options": {"model": "gpt2", "text": "text.txt"}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": "text.txt"}, r"init: .*text\.txt cannot be read"),
        ({"init": "gone"}, r"init: there is no file or folder .*gone"),
        ({"frozen": ["h.0.*"]}, r"frozen: no weight is named h\.0\.\*; the model has layers"),
    ],
)
def test_first_weights_that_do_not_fit_are_refused(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tiny_gpt2.parent)
    options = {"model": "gpt2", "text": "text.txt"}
    with pytest.raises(JobError, match=message):
        first_model(resolve("causal-lm", {"options": options, **settings}))


class Net(nn.Module):
    """No Sequential: a residual network whose forward flattens in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.inner = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
        self.answer = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.stem(x).flatten(1)
        for line in self.inner:
            h = h + line(h).tanh()
        out: torch.Tensor = self.answer(h)
        return out


class Residual(nn.Module):
    def __init__(self, line: nn.Module) -> None:
        super().__init__()
        self.line = line

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = h + self.line(h).tanh()
        return out


def pieces(net: nn.Module) -> list[nn.Module]:
    assert isinstance(net, Net)
    stem = nn.Sequential(net.stem, nn.Flatten())
    return [stem, *(Residual(line) for line in net.inner), net.answer]


def without_residual(net: nn.Module) -> list[nn.Module]:
    assert isinstance(net, Net)
    return [nn.Sequential(net.stem, nn.Flatten()), *net.inner, net.answer]


def without_the_last(net: nn.Module) -> list[nn.Module]:
    return pieces(net)[:-1]


def own_task(layers_of) -> Task:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    x, target = torch.randn(64, 1, 4, 4), torch.arange(64) % 3
    data = TensorDataset(x, target)
    return Task(Net(), nn.functional.cross_entropy, Splits(data, data), layers_of=layers_of)


@pytest.mark.trains
def test_any_module_trains_with_the_layers_that_its_task_names(tmp_path: Path) -> None:
    run = train_here(own_task(pieces), tmp_path / "run", epochs=2, batch_size=16)
    assert run.summary["finished"]
    found = run.job.model.names
    assert found["layers.1.line.weight"] == ("inner.0.weight",)
    assert found["head.bias"] == ("answer.bias",)


@pytest.mark.trains
def test_layers_that_compute_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="the parts of Net do not compute what the module computes"):
        train_here(own_task(without_residual), tmp_path / "a", epochs=1)
    with pytest.raises(JobError, match=r"no part .* holds the weight answer\.weight and 1 more"):
        own_task(without_the_last)


@pytest.mark.trains
def test_a_head_of_zeros_does_not_hide_layers_that_compute_something_else(tmp_path: Path) -> None:
    for weight in (net := Net()).answer.parameters():
        weight.data.zero_()
    task = replace(own_task(pieces), model=net, layers_of=without_residual)
    with pytest.raises(JobError, match="the parts of Net do not compute what the module computes"):
        train_here(task, tmp_path / "a", epochs=1)
    assert not net.answer.weight.any()  # what was given stays as it is


@pytest.mark.unit
@pytest.mark.parametrize("wrong", [lambda _: None, lambda net: net.answer, lambda net: net.nothing])
def test_a_function_that_gives_no_layers_is_refused(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(JobError, match=r"layers_of: fails: .* returns a list: the layers"):
        own_task(wrong)


def write_task(folder: Path) -> Path:
    """A task in a file, which any process can make again."""
    file = folder / "netask.py"
    file.write_text(
        "import torch\n"
        "from torch import nn\n"
        "from torch.utils.data import TensorDataset\n"
        "from dfa_tasks import Splits, Task\n"
        "def make():\n"
        "    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 3))\n"
        "    x = torch.randn(64, 4)\n"
        "    data = TensorDataset(x, x.argmax(1) % 3)\n"
        "    return Task(net, nn.functional.cross_entropy, Splits(data, data))\n"
    )
    return file


@pytest.mark.trains
def test_weights_are_exported_under_the_modules_names_and_taken_up_again(tmp_path: Path) -> None:
    task = f"{write_task(tmp_path)}:make"
    first = train_here(task, tmp_path / "first", epochs=1, batch_size=16)
    assert run_errorcast("export", "first", "--format", "module", cwd=tmp_path).code == 0
    exported, ours = (
        load_file(tmp_path / "model.safetensors"),
        load_file(tmp_path / "first" / "model.safetensors"),
    )
    assert set(exported) == {f"{i}.{n}" for i in (0, 2, 3) for n in ("weight", "bias")}
    assert torch.equal(exported["2.weight"], ours["layers.1.0.weight"])
    states = []
    for init in ("model.safetensors", "first", "first/model.safetensors"):
        run = train_here(
            task, tmp_path / f"from-{len(states)}", init=str(tmp_path / init), epochs=1,
            batch_size=16, frozen=["layers.0.*"],
        )  # fmt: skip
        states.append(load_file(run.folder / "model.safetensors"))
    for state in states:
        assert torch.equal(state["layers.0.0.weight"], ours["layers.0.0.weight"])
        assert not torch.equal(state["layers.1.0.weight"], ours["layers.1.0.weight"])
        assert all(torch.equal(state[name], states[0][name]) for name in state)
    assert first.metrics != {}
    done = run_errorcast("export", "first", "--format", "transformers", cwd=tmp_path)
    assert (done.code, "is not of the transformers library" in done.err) == (2, True)
    done = run_errorcast("export", "first", "-o", "none/there/w.safetensors", cwd=tmp_path)
    assert (done.code, "cannot be written" in done.err) == (2, True)
