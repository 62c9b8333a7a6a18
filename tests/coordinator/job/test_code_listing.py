"""The list of uploaded files: what it may name, and its digest."""

import hashlib
from dataclasses import replace

import pytest
from errorcast.v1 import service_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from coordinator.job.code_listing import CodeFile, CodeListing, check_path, size_text
from dfa_core.errors import JobError

pytestmark = pytest.mark.unit

NONE = hashlib.sha256(b"").hexdigest()
ONE = CodeFile("a/b.py", 3, NONE)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def plain(path: str) -> bool:
    try:
        check_path(path)
    except JobError:
        return False
    return True


@given(st.sets(paths.filter(plain), min_size=1, max_size=6))
def test_text_and_message_hold_all(found: set[str]) -> None:
    ordered = sorted(found, key=lambda path: path.encode())
    files = [CodeFile(path, n, NONE, n % 2 == 1) for n, path in enumerate(ordered)]
    if any(f"{a}/" == b[: len(a) + 1] for a in found for b in found):
        with pytest.raises(JobError, match="is a file and a folder"):
            CodeListing(files)
        return
    listing = CodeListing(files)
    for again in (CodeListing.of_text(listing.text), CodeListing.of_message(listing.message())):
        assert again.files == listing.files
        assert again.digest == listing.digest
    assert listing.bytes == sum(range(len(found)))


@given(st.text(max_size=20))
def test_a_path_that_is_taken_stays_inside(path: str) -> None:
    if plain(path):
        assert path.isprintable()
        assert "\\" not in path
        parts = path.split("/")
        assert all(parts)
        assert not {".", ".."} & {*parts}


def test_the_digest_is_the_documented_one() -> None:
    files = [CodeFile("a.py", 3, NONE), CodeFile("b.sh", 0, NONE, executable=True)]
    text = f"{NONE} 3 - a.py\n{NONE} 0 x b.sh\n"
    assert CodeListing(files).digest == hashlib.sha256(text.encode()).hexdigest()
    assert CodeListing(reversed(files[:1])).digest != CodeListing(files).digest


BAD = {
    "nothing": ([], "has no files"),
    "absolute": ([replace(ONE, path="/etc/passwd")], "must be relative"),
    "up": ([replace(ONE, path="a/../../b")], "or '..'"),
    "here": ([replace(ONE, path="./b")], "an empty part, '.'"),
    "empty": ([replace(ONE, path="")], "must not have an empty part"),
    "double": ([replace(ONE, path="a//b")], "must not have an empty part"),
    "a folder": ([replace(ONE, path="a/")], "must not have an empty part"),
    "NUL": ([replace(ONE, path="a\0b")], "or a control character"),
    "a line": ([replace(ONE, path=f"a\n{NONE} 3 - b")], "or a control character"),
    "backslash": ([replace(ONE, path="..\\b")], "must not have a backslash"),
    "long": ([replace(ONE, path="x" * 201)], "too long"),
    "deep": ([replace(ONE, path="/".join("x" * 600))], "too long"),
    "twice": ([ONE, ONE], "not in ascending order"),
    "file and folder": ([replace(ONE, path="a"), ONE], "is a file and a folder"),
    "33 MiB": ([replace(ONE, bytes=33 << 20)], "larger than 32 MiB"),
    "33 MiB in two": (
        [replace(ONE, bytes=20 << 20), replace(ONE, path="b", bytes=13 << 20)],
        "larger than 32 MiB",
    ),
    "no digest": ([replace(ONE, sha256="../../x")], "not 64 digits"),
    "many": ([replace(ONE, path=f"{n:05}") for n in range(4097)], "above 4,096"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_listing_that_breaks_a_rule_is_refused(case: tuple[list[CodeFile], str]) -> None:
    files, text = case
    with pytest.raises(JobError) as refused:
        CodeListing(files)
    assert text in str(refused.value)
    message = pb.CodeListing(files=[pb.CodeFile(**vars(file)) for file in files])
    with pytest.raises(JobError):
        CodeListing.of_message(message)


@pytest.mark.parametrize(
    "text", ["", "x", f"{NONE} 3 l a.py\n", f"{NONE} -3 - a.py\n", f"{NONE} 3 - a.py"]
)
def test_a_damaged_text_is_no_listing(text: str) -> None:
    with pytest.raises(JobError):
        CodeListing.of_text(text)


def test_sizes_are_short() -> None:
    assert [size_text(n) for n in (0, 1536, 33 << 20)] == ["0 bytes", "1.5 KiB", "33.0 MiB"]
