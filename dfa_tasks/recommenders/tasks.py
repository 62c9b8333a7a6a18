"""The tasks of recommenders: each model on each data set of clicks."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dfa_core import Model
from dfa_tasks.options import check_options, settings_of, typed_options
from dfa_tasks.recommenders.criteo import Criteo
from dfa_tasks.recommenders.fields import Vocabulary
from dfa_tasks.recommenders.models import afn, autoint, dcn, deepfm, features_linear, fm
from dfa_tasks.recommenders.movielens import MovieLens
from dfa_tasks.task import Installed, Splits, Task


class Clicks(Protocol):
    """A data set of categorical fields and clicks."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the fields and their categories."""

    def splits(self) -> Splits:
        """Return (ids of each field, click) pairs."""


DATA: Mapping[str, Callable[[str], Clicks]] = {"movielens": MovieLens, "criteo": Criteo}
MODELS: Mapping[str, Callable[..., Model]] = {
    "linear": features_linear,
    "fm": fm,
    "deepfm": deepfm,
    "dcn": dcn,
    "autoint": autoint,
    "afn": afn,
}


def click_task(
    data: str, model: str, method: str = "dfa", data_dir: str = "", **options: Any
) -> Task:
    """Return a recommender on a data set.

    method: the settings differ between dfa and bp.
    options: those of the model, e.g. size (of an embedding), dropout.

    Raises JobError for an option that the model does not have, and for a value of another type.
    """
    make, found = MODELS[model], DATA[data](data_dir)
    known = inspect.signature(make).parameters
    sizes = {"ids": found.vocabulary.ids, "fields": found.vocabulary.fields}
    check_options(f"{data}-{model}", options, (n for n in known if n not in sizes))
    options = typed_options(options, make)
    data_settings = settings_of("recommenders")[data]
    settings = data_settings.get(model, data_settings["others"])["bp" if method == "bp" else "dfa"]
    chosen = {**sizes, **settings["options"], **options}
    return Task(
        model=make(**{name: value for name, value in chosen.items() if name in known}),
        loss=click_loss,
        error_at="input" if chosen["head_layers"] and "head_layers" in known else "output",
        data=found.splits,
        metrics={"accuracy": click_accuracy},
        global_metrics={"auc": auc},
        defaults=settings["defaults"],
        remedies=_remedies({name: chosen.get(name, of.default) for name, of in known.items()}),
    )


def _remedies(chosen: Mapping[str, Any]) -> Mapping[str, str]:
    """Return what to set for feedback that does not send the error at the head's input.

    Other models than Deep & Cross have terms that learn by the error itself in any form.
    """
    if "cross_error" not in chosen or not chosen["head_layers"]:
        return {}
    at_output = dict.fromkeys(("target", "local"), "options.head_layers=0")
    return at_output | ({"sign": "options.cross_error=false"} if chosen["cross_error"] else {})


def click_loss(logit: Tensor, click: Tensor) -> Tensor:
    """Return the mean log loss of (n, 1) logits."""
    return nn.functional.binary_cross_entropy_with_logits(logit.squeeze(-1), click)


def click_accuracy(logit: Tensor, click: Tensor) -> Tensor:
    """Return the share of samples whose click or lack of a click is predicted correctly."""
    return ((logit.squeeze(-1) > 0) == (click > 0)).float().mean()


def auc(logit: Tensor, click: Tensor) -> float:
    """Return the area under the ROC curve; NaN if all samples have the same click."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  # takes a second

    if torch.all(click == click[0]):
        return float("nan")
    return float(roc_auc_score(click.numpy(), logit.squeeze(-1).numpy()))


_DATA_TITLES = {
    "movielens": "MovieLens 100K, clicks",
    "criteo": "Criteo, clicks (your train.txt)",
}
_MODEL_TITLES = {
    "linear": "logistic regression",
    "fm": "factorisation machine",
    "deepfm": "DeepFM",
    "dcn": "Deep & Cross",
    "autoint": "AutoInt",
    "afn": "AFN",
}
INSTALLED = {
    f"{data}-{model}": Installed(partial(click_task, data, model), f"{title}: {about}")
    for data, title in _DATA_TITLES.items()
    for model, about in _MODEL_TITLES.items()
}
