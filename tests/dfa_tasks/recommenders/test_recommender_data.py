"""The readers of MovieLens and Criteo, on the real files and on broken ones."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from dfa_core import JobError
from dfa_tasks.recommenders.criteo import FIELDS, Criteo, binned
from dfa_tasks.recommenders.fields import Vocabulary
from dfa_tasks.recommenders.movielens import MovieLens
from dfa_tasks.task import Splits

USERS = "1|24|M|technician|85711\n2|53|F|other|94043\n"
FILM = "1|Toy Story (1995)|01-Jan-1995||http://x|" + "|".join("0" * 19) + "\n"
RATINGS = "1\t1\t5\t881250949\n2\t1\t3\t891717742\n" * 10


def parts(splits: Splits) -> list[tuple[torch.Tensor, torch.Tensor]]:
    sets = (splits.train, splits.validation, splits.test)
    assert all(isinstance(one, TensorDataset) for one in sets)
    return [one.tensors for one in sets]  # type: ignore[union-attr]


def movielens(folder: Path, **files: str) -> MovieLens:
    texts = {"user": USERS, "item": FILM, "data": RATINGS} | files
    for name, text in texts.items():
        (folder / f"u.{name}").write_text(text, encoding="latin-1")
    return MovieLens(str(folder))


def test_movielens_as_it_is(real_data: Path) -> None:
    data = MovieLens(str(real_data / "movielens-100k"))
    sizes = {name: len(known) for name, known in data.vocabulary.known.items()}
    assert sizes["user"] == 943
    assert sizes["film"] == 1682
    assert sizes["gender"] == 2
    assert sizes["occupation"] == 21
    found = parts(data.splits())
    assert [len(x) for x, _ in found] == [80_000, 10_000, 10_000]
    clicks = torch.cat([click for _, click in found])
    assert clicks.sum() == 55_375  # ratings of 4 and 5, as u.data counts them
    ids = torch.cat([x for x, _ in found])
    assert ids.shape == (100_000, 7)
    assert int(ids.max()) < data.vocabulary.ids
    again = parts(MovieLens(str(real_data / "movielens-100k")).splits())
    assert all(torch.equal(a, b) for a, b in zip(found[2], again[2], strict=True))


def test_with_and_without_a_line_of_names_and_in_either_form(tmp_path: Path) -> None:
    plain = movielens(tmp_path)
    once = parts(plain.splits())
    (tmp_path / "other").mkdir()
    named = "user|item|rating|timestamp\n" + RATINGS.replace("\t", "|")
    again = parts(movielens(tmp_path / "other", data=named).splits())
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


@pytest.mark.parametrize(
    ("file", "text", "line", "what"),
    [
        ("data", RATINGS + "1\t1\t5\n", 21, "has 3 column(s), not 4"),
        ("data", RATINGS + "1\tx\t5\t0\n", 21, "invalid literal for int() with base 10: 'x'"),
        ("data", RATINGS + "1\t1\t6\t0\n", 21, "a rating of 6"),
        ("user", USERS + "3|old|M|other|1\n", 3, "invalid literal for int() with base 10: 'old'"),
        ("item", FILM + "2|No genres|01-Jan-1995||\n", 2, "has 5 column(s), not 24"),
    ],
)
def test_a_malformed_row_is_named(
    tmp_path: Path, file: str, text: str, line: int, what: str
) -> None:
    with pytest.raises(JobError) as caught:
        movielens(tmp_path, **{file: text}).splits()
    assert str(caught.value) == f"{tmp_path / 'u.'}{file}, line {line}: {what}"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"u\.data: has no rows"):
        movielens(tmp_path, data="").splits()


def test_a_user_that_nobody_knows_is_the_unknown_one(tmp_path: Path) -> None:
    data = movielens(tmp_path, data=RATINGS + "77\t99\t4\t0\n")
    ids = torch.cat([x for x, _ in parts(data.splits())])
    assert [0] * 2 in ids[:, :2].sub(torch.tensor([0, 3])).tolist()  # each field's first id


def test_ids_count_through_the_fields() -> None:
    vocabulary = Vocabulary.of({"colour": ["red", "blue", "red"], "size": ["s"]})
    assert (vocabulary.fields, vocabulary.ids) == (2, 5)
    assert vocabulary.encode(["blue", "s"]) == [1, 4]
    assert vocabulary.encode(["green", ""]) == [0, 3]


def criteo(folder: Path, text: str, threshold: int = 10) -> Criteo:
    (folder / "train.txt").write_text(text)
    return Criteo(str(folder), threshold)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ERRORCAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def stripped(real_data: Path) -> str:
    """The sample as it came: its lines have lost the tabs at their end."""
    return (real_data / "criteo-sample" / "criteo_1000.txt").read_text()


@pytest.fixture
def sample(stripped: str) -> str:
    """The sample in the original form: 40 columns in each line."""
    rows = [line + "\t" * (39 - line.count("\t")) for line in stripped.splitlines()]
    return "\n".join(rows) + "\n"


def test_criteo_counts_as_counting_by_hand(tmp_path: Path, cache: Path, sample: str) -> None:
    data = criteo(tmp_path, sample, threshold=5)
    counts: dict[str, Counter[str]] = {field: Counter() for field in FIELDS}
    table = [line.split("\t") for line in sample.splitlines()]
    assert {len(row) for row in table} == {40}
    for row in table:
        for field, value in zip(FIELDS, row[1:], strict=True):
            counts[field][binned(value) if field.startswith("I") else value] += 1
    for field, known in data.vocabulary.known.items():
        assert set(known) == {c for c, count in counts[field].items() if c and count >= 5}
    found = parts(data.splits())
    assert sum(len(x) for x, _ in found) == len(table) == 1000
    assert all(len(x) > 50 for x, _ in found)
    clicks = torch.cat([click for _, click in found])
    assert int(clicks.sum()) == sum(row[0] == "1" for row in table)
    assert max(int(x.max()) for x, _ in found) < data.vocabulary.ids


def test_lines_that_lost_their_last_tabs_are_read_as_they_were(
    tmp_path: Path, cache: Path, sample: str, stripped: str
) -> None:
    found = []
    for name, text in (("whole", sample), ("stripped", stripped)):
        (tmp_path / name).mkdir()
        found.append(parts(criteo(tmp_path / name, text).splits()))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(*found, strict=True))


def test_criteo_is_read_once(tmp_path: Path, cache: Path, sample: str) -> None:
    criteo(tmp_path, sample)
    (kept,) = cache.iterdir()
    made = (kept / "train-x.npy").stat().st_mtime_ns
    assert parts(Criteo(str(tmp_path)).splits())[0][0].dtype == torch.int32
    assert (kept / "train-x.npy").stat().st_mtime_ns == made


def test_integers_are_binned_as_usual() -> None:
    assert [binned(v) for v in ("", "-1", "2", "3", "10", "1382")] == [
        "", "=-1", "=2", "1", "5", "52",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda rows: [*rows[:7], rows[7].replace("\t", "", 1)],
            "line 8: has 39 column(s), not 40",
        ),
        (lambda rows: [rows[2].rstrip("\t"), *rows[1:]], "line 1: has 38 column(s), not 40"),
        (lambda rows: [rows[0], "2" + rows[1][1:]], "line 2: the click is '2', not 0 or 1"),
        (lambda rows: [rows[0].replace("\t1\t", "\tone\t", 1)], "line 1: invalid literal"),
        (lambda rows: [], "has no rows"),
    ],
)
def test_a_malformed_row_of_criteo_is_named(
    tmp_path: Path, cache: Path, sample: str, change: object, what: str
) -> None:
    rows = change(sample.splitlines())  # type: ignore[operator]
    with pytest.raises(JobError) as caught:
        criteo(tmp_path, "\n".join(rows))
    assert what in str(caught.value)
    assert not any(cache.glob("*"))  # nothing half made is left


def test_without_criteos_file_it_says_where_to_get_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ERRORCAST_DATA", raising=False)
    with pytest.raises(JobError, match="terms must be accepted before a download"):
        Criteo("")
