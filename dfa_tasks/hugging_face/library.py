"""The transformers library, which is optional: models and tokenizers from local folders."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from dfa_core import JobError

_BESIDE_IT = ("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model")


def transformers() -> Any:
    """Return the library. Raises JobError where it is not installed."""
    try:
        library = import_module("transformers")
    except ImportError as error:
        raise JobError(
            f"this needs the transformers library ({error}): pip install 'errorcast[hf]'"
        ) from error
    library.logging.set_verbosity_error()  # its advice is for its own trainer
    library.logging.disable_progress_bar()
    return library


def config_in(folder: Path) -> Any:
    """Return the configuration of a model from its folder, or from its config.json.

    Raises JobError where it cannot be read.
    """
    file = folder / "config.json" if folder.is_dir() else folder
    if not file.is_file():
        raise JobError(f"options.model: there is no {file}")
    try:
        kind = json.loads(file.read_text(encoding="utf-8"))["model_type"]
        return transformers().AutoConfig.for_model(kind).from_json_file(file)
    except JobError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())
        raise JobError(f"options.model: {file} is no configuration of a model: {what}") from error


def causal_class(config: Any) -> Any:
    """Return the class of causal language models of a configuration's kind.

    Raises JobError where the library has none.
    """
    known = transformers().AutoModelForCausalLM._model_mapping
    if type(config) not in known:
        raise JobError(
            f"options.model: transformers has no causal language model of type {config.model_type}"
        )
    found = known[type(config)]
    return found[0] if isinstance(found, tuple) else found


def tokenizer_files(folder: Path) -> dict[str, str]:
    """Return the texts of the files that make up the tokenizer in a folder, by name.

    One is tokenizer.json, as the tokenizers library writes it.

    Raises JobError where there is none, or it cannot be written so.
    """
    found = {"tokenizer.json": _tokenizer_json(folder)}
    for name in _BESIDE_IT:
        if (folder / name).is_file():
            found[name] = (folder / name).read_text(encoding="utf-8")
    return found


def _tokenizer_json(folder: Path) -> str:
    file = folder / "tokenizer.json"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise JobError(f"options.model: {folder} holds no tokenizer (tokenizer.json)")
    try:
        found = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return str(found.backend_tokenizer.to_str())
    except Exception as error:
        what = " ".join(str(error).split())
        raise JobError(
            f"options.model: the tokenizer in {folder} cannot be read: {what}"
        ) from error
