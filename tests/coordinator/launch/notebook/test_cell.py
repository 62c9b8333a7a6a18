"""What a cell of a notebook shows while it trains, and afterwards, by a real kernel."""

import re
from base64 import b64decode
from collections.abc import Iterator

import pytest
from support.kernels import Kernel, Shown, a_kernel

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SMALL = "options={'width': 32}, log_every=1"
FOREVER = f"{SMALL}, epochs=100_000"
BEGIN = """
from errorcast import train
from coordinator.launch.ray_session import ray_for
session = ray_for(4, 1.0)  # one for all cells, to save time
session.__enter__()
"""
AWAITED = """
import asyncio
ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.01)
ticking = asyncio.create_task(tick())
run = await asyncio.to_thread(train, "digits", {})
_ = ticking.cancel()
(run.summary["finished"], ticks > 20)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with a_kernel(tmp_path_factory.mktemp("notebook")) as kernel:
        begun = kernel.run(BEGIN)
        assert begun == Shown()  # what Ray says about missing widgets stays out of the cell
        yield kernel
        kernel.run("session.__exit__(None, None, None)")


def has_trained(text: str) -> bool:
    return text.startswith("epoch ")


def test_one_picture_moves_and_stays(kernel: Kernel) -> None:
    twice = [kernel.run(f"run = train('digits', epochs=3, {SMALL})") for _ in range(2)]
    for cell in twice:
        [picture], [lines] = cell.pictures, cell.last_lines
        assert len(picture) >= 2
        assert picture[-1]["text/plain"].startswith("finished at step 66, ")
        assert b64decode(picture[-1]["image/png"])[:4] == b"\x89PNG"
        assert re.fullmatch(
            r"test loss [\d.]+  accuracy 0\.[\d.]+  \(66 steps, [\d.]+ ms each\)\n"
            r"run folder: runs/digits-[\d-]+",
            lines,
        )
        assert (cell.text, cell.error) == ("", [])
    assert not twice[0].displays.keys() & twice[1].displays.keys()
    assert re.fullmatch(r"Run\(folder=PosixPath\('.*'\)\)", kernel.run("run").result)


def test_without_a_viewer_nothing_is_shown(kernel: Kernel) -> None:
    assert kernel.run(f"run = train('digits', epochs=1, viewer=None, {SMALL})") == Shown()


def test_a_wrong_job_is_one_line(kernel: Kernel) -> None:
    cell = kernel.run("train('digits', epochs=0)")
    assert cell == Shown(error=["JobError: epochs: 0 must be at least 1"])


def test_a_job_whose_code_fails_says_where_to_see_the_stack_trace(kernel: Kernel) -> None:
    kernel.run(
        """
from dataclasses import replace
from dfa_tasks.registry import make_task
def broken(*_):
    raise ArithmeticError("my loss is wrong")
"""
    )
    cell = kernel.run("train(replace(make_task('digits', {}), loss=broken))")
    assert [line.split(": ")[0] for line in cell.error] == ["JobError", "To see the stack trace"]
    assert cell.error[0].endswith("ArithmeticError: my loss is wrong")
    assert (cell.pictures[0][-1], cell.text) == ({"text/plain": ""}, "")
    shown = kernel.run("import traceback; traceback.print_last()")
    assert ", in broken" in shown.text


def test_an_interrupted_cell_has_saved_and_resumes(kernel: Kernel) -> None:
    cell = kernel.run(f"run = train('digits', run_dir='stopped', {FOREVER})", has_trained)
    assert (cell.text, cell.error) == ("", [])
    assert cell.pictures[0][-1]["text/plain"].startswith("stopped at step ")
    [lines] = cell.last_lines
    assert lines.splitlines()[-1].endswith("train(..., run_dir='stopped', resume=True)")
    more = "epochs=run.summary['steps'] // 22 + 2"
    cell = kernel.run(
        f"train('digits', run_dir='stopped', resume=True, {more}).summary['finished']"
    )
    assert (cell.result, cell.error, len(cell.pictures)) == ("True", [], 1)
    assert cell.last_lines[0].startswith("resumed from the checkpoint of step ")


def test_awaited_in_a_thread_other_coroutines_go_on(kernel: Kernel) -> None:
    cell = kernel.run(AWAITED.format(f"epochs=3, {SMALL}"))
    assert (cell.result, cell.text, cell.error) == ("(True, True)", "", [])
    assert [picture[-1]["text/plain"][:8] for picture in cell.pictures] == ["finished"]


def test_a_thread_shows_its_run_in_the_cell_that_started_it(kernel: Kernel) -> None:
    started = kernel.run(
        f"""
from threading import Thread
thread = Thread(target=train, args=["digits"], kwargs=dict(epochs=3, {SMALL}))
thread.start()
"""
    )
    assert kernel.run("thread.join()") == Shown()
    [picture] = started.pictures
    assert picture[-1]["text/plain"].startswith("finished at step 66, ")


def test_an_awaited_run_is_interrupted_as_a_plain_one(kernel: Kernel) -> None:
    cell = kernel.run(AWAITED.format(f"run_dir='awaited', {FOREVER}"), has_trained)
    assert (cell.result, cell.text, cell.error) == ("(False, True)", "", [])
    assert "stopped and saved at step" in cell.last_lines[0]
    asked = "import signal\nsignal.getsignal(signal.SIGINT) is signal.default_int_handler"
    assert kernel.run(asked).result == "True"
