"""The result of a comparison in a sentence that needs no knowledge of pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any


def headline(found: Mapping[str, Any]) -> str:
    """Return the speedup over the best pipeline, and who reached a target first, in sentences."""
    summary = found["summary"]
    workers = "one worker" if summary["workers"] == 1 else f"the same {summary['workers']} workers"
    best = next((row for row in found["rows"] if _is_best_pipeline(row, summary)), None)
    if best is None:
        said = f"No pipeline of backpropagation was measured on {workers} to compare with"
    else:
        over, low, high = (best[k] for k in ("speedup", "speedup_low", "speedup_high"))
        between = f"{best['label']}; quartiles {{:.2f}} to {{:.2f}}"
        rival = "the best pipeline of backpropagation"
        if over >= 1:
            said = (
                f"On {workers}, errorcast trains a step {over:.2f} times as fast as {rival} "
                f"({between.format(low, high)})"
            )
        else:
            said = (
                f"On {workers}, errorcast is slower than {rival}: its step takes {1 / over:.2f} "
                f"times as long ({between.format(1 / high, 1 / low)})"
            )
    faster = [
        f"{row['label']} ({row['speedup']:.2f} of its step)"
        for row in found["rows"]
        if row["best"]
        and row["label"] != summary["best_pipeline"]
        and round(row["speedup"] or 1, 2) < 1
    ]
    sentences = [said, *([f"Faster than errorcast: {', '.join(faster)}"] if faster else [])]
    if found.get("race"):
        sentences.append(_raced(found["race"]))
    return " ".join(f"{sentence}." for sentence in sentences)


def _is_best_pipeline(row: Mapping[str, Any], summary: Mapping[str, Any]) -> bool:
    return bool(row["best"] and row["label"] == summary["best_pipeline"])


def _raced(rows: Sequence[Mapping[str, Any]]) -> str:
    words = [
        f"{row['label']} {'reached' if row['reached'] else 'did not reach'} the target"
        f"{' in' if row['reached'] else ' within'} {row['seconds']:.1f} s of training"
        for row in rows
    ]
    return "; ".join(words)
