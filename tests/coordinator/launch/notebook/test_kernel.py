"""Where a kernel runs, and where it does not; test_cell.py has a real one."""

import subprocess
import sys

import IPython
import pytest

from coordinator.launch.notebook.kernel import interrupts_of_awaiting_cell, running_kernel

ASKS = """
import sys
from coordinator.launch.notebook.kernel import running_kernel
print(running_kernel(), "IPython" in sys.modules)
"""


def test_a_program_that_imported_ipython_is_no_notebook() -> None:
    assert IPython.get_ipython() is None
    assert running_kernel() is None
    with interrupts_of_awaiting_cell() as noted:
        assert noted == []


@pytest.mark.blocks
def test_a_terminal_is_no_notebook_and_a_script_does_not_import_ipython() -> None:
    for program, imported in ([], "False"), (["-m", "IPython", "--no-banner"], "True"):
        asked = [sys.executable, *program, "-c", ASKS]
        answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert answer.split() == ["None", imported]
