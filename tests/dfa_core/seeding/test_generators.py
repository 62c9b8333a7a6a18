"""The three global generators under one seed, one thread at a time."""

import importlib
import importlib.util
import random
import sys
import threading
import time
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from dfa_core.seeding import Draws, draw_from, drawing_from, restored_once

Numbers = tuple[float, ...]


def drawn() -> Numbers:
    """Draw from all of them; an odd number of Gaussians leaves half a pair in the generators."""
    return (
        *(float(torch.rand(())), float(torch.randn(()))),
        *(random.random(), random.gauss(0, 1)),
        *(float(np.random.rand()), float(np.random.randn())),
    )


def test_the_same_seed_gives_the_same_numbers_whatever_was_drawn_before() -> None:
    with drawing_from(7):
        once = drawn()
    drawn()
    with drawing_from(7):
        assert drawn() == once
    with drawing_from(8):
        assert all(a != b for a, b in zip(drawn(), once, strict=True))


def test_the_callers_streams_go_on_as_if_nothing_was_drawn() -> None:
    _restart()
    undisturbed = drawn(), drawn()
    _restart()
    first = drawn()
    with drawing_from(7):
        drawn()
        with drawing_from(8), drawing_from(9, Draws.TORCH):
            drawn()
        draw_from(10)
        drawn()
    assert (first, drawn()) == undisturbed


def test_they_go_on_after_an_error_too() -> None:
    _restart()
    undisturbed = drawn()
    _restart()
    with pytest.raises(ZeroDivisionError), drawing_from(7):
        drawn()
        _ = 1 / 0
    assert drawn() == undisturbed


def test_an_inner_context_disturbs_no_outer_one() -> None:
    with drawing_from(7):
        undisturbed = drawn(), drawn()
    with drawing_from(7):
        first = drawn()
        with drawing_from(8):
            drawn()
        assert (first, drawn()) == undisturbed


def test_states_may_be_restored_once() -> None:
    with drawing_from(7):
        inside = drawn(), drawn()
    _restart()
    undisturbed = drawn(), drawn()
    _restart()
    first = drawn()
    with restored_once():
        for _ in range(2):
            with drawing_from(7):
                before = drawn()
                with drawing_from(8):
                    drawn()
                assert (before, drawn()) == inside
    assert (first, drawn()) == undisturbed


def test_what_draws_from_torch_alone_leaves_the_others() -> None:
    _restart()
    undisturbed = drawn()
    _restart()
    with drawing_from(7, Draws.TORCH):
        torch.rand(3)
    assert drawn() == undisturbed


def test_threads_do_not_disturb_each_other() -> None:
    """A thread that reads samples, and one that draws in between, get what each gets alone."""

    def samples() -> list[Numbers]:
        found = []
        with drawing_from(3):
            for index in range(40):
                draw_from(index)
                time.sleep(0.0005)  # an image is decoded
                found.append(drawn())
        return found

    def head() -> list[Numbers]:
        found = []
        for step in range(20):
            with drawing_from(100 + step):
                first = drawn()
                time.sleep(0.0005)
                found += [first, drawn()]
        return found

    alone = samples(), head()
    together: dict[str, list[Numbers]] = {}
    threads = [
        threading.Thread(target=lambda: together.update(samples=samples())),
        threading.Thread(target=lambda: together.update(head=head())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (together["samples"], together["head"]) == alone


def test_who_waits_goes_first_when_a_sample_is_read() -> None:
    """Otherwise the head would wait for a whole batch."""
    read = 0
    began = threading.Event()

    def batch() -> None:
        nonlocal read
        with drawing_from(3):
            for index in range(50):
                draw_from(index)
                began.set()
                time.sleep(0.01)
                read = index + 1

    thread = threading.Thread(target=batch)
    thread.start()
    began.wait()
    with drawing_from(4, Draws.TORCH):
        assert read < 25  # one sample, unless the machine sleeps
    thread.join()
    assert read == 50


def _restart() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)


def test_modules_that_share_a_loader_are_imported_under_their_own_names(tmp_path: Path) -> None:
    """The modules of an archive have one loader; one may be looked for and not imported."""
    names = [f"archived_{tmp_path.name}_{letter}".replace("-", "_") for letter in "abc"]
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for name in names:
            archive.writestr(f"{name}.py", "import random\nNUMBER = random.random()\n")
    with mock.patch.object(sys, "path", [*sys.path, str(tmp_path / "archive.zip")]):
        with drawing_from(7):
            undisturbed = random.random()
        with drawing_from(7):
            assert importlib.util.find_spec(names[2]) is not None
            found = [importlib.import_module(name).NUMBER for name in names]
            assert random.random() == undisturbed
        for name in names:
            del sys.modules[name]
        with drawing_from(8):
            again = [importlib.import_module(name).NUMBER for name in reversed(names)]
    assert again[::-1] == found
    assert len(set(found)) == 3
