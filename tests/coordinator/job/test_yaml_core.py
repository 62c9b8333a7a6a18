"""Job files and `--set` are YAML 1.2, with its core schema."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coordinator.job.spec import assignment, read_recorded, read_yaml
from coordinator.job.yaml_core import dump, load, load_recorded
from dfa_core import JobError

# what people write, and what the core schema of YAML 1.2.2 (chapter 10.3) makes of it
VALUES: dict[str, Any] = {
    "1e-4": 1e-4, "1E5": 1e5, "+1.5e+3": 1500.0, ".5": 0.5, "5.": 5.0, "-.5e1": -5.0, "1.0": 1.0,
    "0123": 123, "-7": -7, "+7": 7, "0o17": 15, "0x1F": 31, "9007199254740993": 9007199254740993,
    "no": "no", "yes": "yes", "on": "on", "off": "off", "y": "y", "N": "N", "No": "No",
    "true": True, "True": True, "FALSE": False, "null": None, "~": None, "": None,
    "1_000": "1_000", "1:30": "1:30", "190:20:30.15": "190:20:30.15", "0b11": "0b11",
    "2024-01-02": "2024-01-02", "-.inf": float("-inf"), "~/data": "~/data", "tRue": "tRue",
    "0o8": "0o8", "1e": "1e", ".": ".", "-": [None], "=": "=", "'1e-4'": "1e-4",
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_plain_texts_are_what_the_core_schema_says(text: str) -> None:
    expected = VALUES[text]
    found = load(f"key: {text}\n")["key"] if text != "-" else load("-")
    assert (type(found), found) == (type(expected), expected)
    if text != "-":
        assert assignment(f"options.x={text}") == {"options": {"x": expected}}


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(
            same(value, other[key]) for key, value in one.items()
        )  # fmt: skip
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


LOOKALIKES = st.sampled_from(
    [*VALUES, "<<", "1e-4", "0o17", "0x1F", "0123", "1.", "a: b", "#", "é"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | LOOKALIKES
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | LOOKALIKES, inner),
    max_leaves=8,
)


@given(st.dictionaries(LOOKALIKES, NESTED))
def test_what_is_written_is_read_back(written: dict[str, Any]) -> None:
    text = dump(written)
    assert text.startswith("%YAML 1.2\n")
    assert same(load(text), written)
    assert same(load_recorded(text), written)


def test_texts_that_look_like_numbers_are_quoted_for_readers_of_either_version() -> None:
    texts = [text for text in VALUES if isinstance(text, str)]
    assert yaml.safe_load(dump(texts)) == texts


def test_an_older_job_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    """PyYAML wrote the text 1e-4 without quotes, since YAML 1.1 takes it for a text."""
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"options": {"lr": "1e-4", "flag": "no", "x": 1e-5}}))
    assert read_recorded(path) == {"options": {"lr": "1e-4", "flag": "no", "x": 1e-5}}
    assert read_yaml(path)["options"]["lr"] == 1e-4  # as a file that a user wrote


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' appears twice"),
        ("options: {x: 1, x: 2}\n", "the key 'x' appears twice"),
        ("a: &b [*b]\n", "Circular reference"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: !!python/object:os.system x\n", "could not determine a constructor"),
        ("a: !!int x\n", "invalid literal"),
        ("a: [1\n", "expected ',' or ']'"),
        ("? {a: 1}\n: 2\n", "unhashable"),
        ("a: " + "9" * 5000, "limit"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match="is not valid YAML") as refused:
        read_yaml(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_anchors_and_merge_keys_still_work() -> None:
    assert load("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")["b"] == {"x": 1, "y": 3}
