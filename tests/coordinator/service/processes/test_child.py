"""A child process may compute for longer than it may be silent."""

import asyncio
import sys
from pathlib import Path

import pytest

from coordinator.service.processes.child import Child, ChildGone

ANSWERS = """
import time
from coordinator.service.processes.frames import answer_one_by_one

def work(header, body):
    end = time.monotonic() + header["seconds"]
    while time.monotonic() < end:
        if not header["computes"]:
            time.sleep(0.1)
    return {"done": True}, b""

def main():
    answer_one_by_one(work)
"""


async def answer(folder: Path, computes: bool, while_it_computes: bool) -> bool:
    child = Child(
        "slow_child", folder / "empty", {"PYTHONPATH": ":".join([*sys.path, str(folder)])}
    )
    await child.start()
    try:
        await child.ask({"seconds": 0, "computes": False})  # it has started, and reads no files
        request = {"seconds": 4, "computes": computes}
        header, _ = await child.ask(request, b"", 1.0, while_it_computes)
        return bool(header["done"])
    finally:
        await child.stop()


@pytest.mark.service
def test_a_child_that_computes_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "slow_child.py").write_text(ANSWERS)
    assert asyncio.run(answer(tmp_path, computes=True, while_it_computes=True))
    for computes, patient in ((True, False), (False, True)):
        with pytest.raises(ChildGone, match="slow_child did not answer within 1 s"):
            asyncio.run(answer(tmp_path, computes, patient))
