"""A comparison in the form of torchtitan's benchmark reports: [model]_[hardware]_[date].md."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dfa_core.atomic_file import write_atomically
from dfa_speedup.results.headline import headline

_REPORT = """# {task}: errorcast against backpropagation

{headline}

Measured with `{command}`.

### Models

{task}: {layers} layers and a head, {parameters:,} parameters, batches of {batch_size}, {precision},
{optimizer}.

### Hardware

{hardware}

### Results

{workers} workers. Medians, with quartiles; a speedup is errorcast's over the side of its row.

{results}

### Versions and Dates

{versions}
"""


def write_markdown(
    folder: Path,
    found: Mapping[str, Any],
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    day: date,
) -> Path:
    """Write the report and return its path. Raises OSError.

    found: what bench.json holds. columns, cells: its table.
    """
    machine, sums = found["machine"], found["summary"]
    hardware = machine["gpus"][0].partition(",")[0] if machine["gpus"] else machine["cpu"]
    versions = [("python", machine["python"]), *machine["versions"].items()]
    text = _REPORT.format(
        **sums,
        task=found["task"],
        headline=headline(found),
        command=found["command"],
        hardware="\n".join(_hardware(machine, sums)),
        results=_table(columns, cells),
        versions=_table(("package", "version", "date"), [(*pair, str(day)) for pair in versions]),
    )
    path = folder / f"{_in_a_name(found['task'])}_{_in_a_name(hardware)}_{day:%Y%m%d}.md"
    write_atomically(path, text.encode())
    return path


def _hardware(machine: Mapping[str, Any], sums: Mapping[str, Any]) -> list[str]:
    lines = [
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}"
    ]
    lines += [f"- GPU (name, memory, power limit): {gpu}" for gpu in machine["gpus"]]
    if "link_latency_us" in sums:
        lines.append(
            f"- Links between workers, measured: {sums['link_latency_us']} us, "
            f"{sums['link_gbit_per_s']} Gb/s"
        )
    return lines


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *cells]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _in_a_name(text: str) -> str:
    """Return a text in lower case, with a hyphen for what a file's name should not have."""
    return re.sub(r"[^a-z0-9.]+", "-", Path(text).name.lower()).strip("-")
