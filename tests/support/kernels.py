"""Runs cells in a real IPython kernel, and reads what it publishes, as a notebook does."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

_ANSWER_S = 200.0


@dataclass
class Shown:
    """What one cell has put out.

    displays: by display id, each version of it as its data by MIME type; text: of stdout and
    stderr; error: the lines of its traceback.
    """

    displays: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    text: str = ""
    error: list[str] = field(default_factory=list)
    result: str = ""

    @property
    def pictures(self) -> list[list[dict[str, str]]]:
        """The displays that began as a picture."""
        return [all_ for all_ in self.displays.values() if "image/png" in all_[0]]

    @property
    def last_lines(self) -> list[str]:
        """The last version of each display that is text alone."""
        texts = (all_[-1] for all_ in self.displays.values() if "image/png" not in all_[-1])
        return [data["text/plain"] for data in texts]


@dataclass(frozen=True)
class Kernel:
    """A kernel with its client; cells run one after another."""

    manager: KernelManager
    client: BlockingKernelClient
    cells: dict[str, Shown] = field(default_factory=dict)

    def run(self, code: str, when: Callable[[str], bool] | None = None) -> Shown:
        """Run a cell to its end; what earlier cells put out meanwhile is added to theirs.

        when: called with each text that a display shows; the first True interrupts the kernel.
        """
        request = self.client.execute(code)
        shown = self.cells[request] = Shown()
        while True:
            message = self.client.get_iopub_msg(timeout=_ANSWER_S)
            asked, content = message["parent_header"].get("msg_id"), message["content"]
            if asked not in self.cells:
                continue
            if message["msg_type"] == "status" and content["execution_state"] == "idle":
                if asked == request:
                    return shown
                continue
            data = _note(self.cells[asked], message["msg_type"], content)
            if when is not None and data is not None and when(data["text/plain"]):
                when = None
                self.manager.interrupt_kernel()


def _note(shown: Shown, kind: str, content: dict[str, Any]) -> dict[str, str] | None:
    match kind:
        case "display_data":
            assert content["transient"]["display_id"] not in shown.displays
            shown.displays[content["transient"]["display_id"]] = [content["data"]]
        case "update_display_data":
            shown.displays[content["transient"]["display_id"]].append(content["data"])
        case "execute_result":
            shown.result = content["data"]["text/plain"]
        case "stream":
            shown.text += content["text"]
        case "error":
            shown.error = content["traceback"]
    return content["data"] if kind.endswith("display_data") else None


@contextmanager
def a_kernel(folder: Path) -> Iterator[Kernel]:
    """Have a kernel whose current folder is this one."""
    own = {**os.environ, "IPYTHONDIR": str(folder / ".ipython")}  # nobody's start-up files
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder), env=own)
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
