"""One finished run of digits for the tests that look at runs."""

from pathlib import Path

import pytest
from support.in_process import train_here


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "bp"
    train_here("digits", method="bp", epochs=1, options={"width": 32}, run_dir=folder)
    return folder
