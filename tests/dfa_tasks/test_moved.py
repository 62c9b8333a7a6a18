"""Modules that a user's task file may import by the names that they once had."""

import importlib
import sys

import pytest

import dfa_tasks.language.transformer
from dfa_tasks import moved


def test_a_building_block_is_found_by_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dfa_tasks.transformer", raising=False)
    with pytest.warns(DeprecationWarning, match=r"is now dfa_tasks.language.transformer"):
        old = importlib.import_module("dfa_tasks.transformer")
    assert old is dfa_tasks.language.transformer
    assert old.__name__ == "dfa_tasks.language.transformer"  # also in what is pickled


@pytest.mark.parametrize("name", moved._MOVED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_each_old_name_leads_to_a_module(name: str) -> None:
    assert importlib.import_module(f"dfa_tasks.{name}")
