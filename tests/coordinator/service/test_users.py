"""Who is let in, by which token, and what a file of users may say."""

import hashlib
import os
from pathlib import Path

import pytest
from support.command_line import run_errorcast

from coordinator.service.users import ANYONE, User, Users, line_of, read_users
from dfa_core.errors import JobError

pytestmark = pytest.mark.unit

ALICE, BOB = "token-of-alice-0123456789", "token-of-bob-0123456789"


def written(folder: Path, *lines: str, mode: int = 0o600) -> Path:
    file = folder / "users.txt"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(mode)
    return file


def test_each_token_is_of_its_user(tmp_path: Path) -> None:
    alice, bob = User("alice", upload=True, workers=4), User("bob", admin=True, upload=True)
    file = written(tmp_path, "# ours", "", line_of(alice, ALICE), line_of(bob, BOB) + "  # boss")
    users = Users("the-token-of-a-file", file)
    assert users.bearing(f"Bearer {ALICE}".encode()) == alice
    assert users.bearing(f"Bearer {BOB}".encode()) == bob
    assert users.bearing(b"Bearer the-token-of-a-file") == User("admin", admin=True, upload=True)
    hashed = hashlib.sha256(ALICE.encode()).hexdigest()
    for given in ("", "Bearer ", f"Bearer {ALICE}x", ALICE, f"Bearer {hashed}", f"bearer {ALICE}"):
        assert users.bearing(given.encode()) is None
    assert users.limits() == {"alice": 4}
    assert ALICE not in file.read_text()


def test_without_tokens_everybody_is_let_in() -> None:
    assert Users().bearing(b"") == ANYONE
    assert Users("a-token").bearing(b"") is None


def test_a_changed_file_counts_from_the_next_call(tmp_path: Path) -> None:
    file = written(tmp_path, line_of(User("alice"), ALICE))
    users = Users(None, file)
    assert users.bearing(f"Bearer {ALICE}".encode()) is not None
    written(tmp_path, line_of(User("bob"), BOB), "nonsense")
    assert users.bearing(f"Bearer {ALICE}".encode()) is not None  # the file is wrong: as it was
    written(tmp_path, line_of(User("bob"), BOB))
    assert users.bearing(f"Bearer {ALICE}".encode()) is None
    assert users.bearing(f"Bearer {BOB}".encode()) is not None
    file.unlink()
    assert users.bearing(f"Bearer {BOB}".encode()) is not None


HASH = f"sha256:{'0' * 64}"
BAD = {
    "no hash": (["alice"], "line 1: after 'alice' comes sha256:"),
    "a short hash": (["alice sha256:00"], "comes sha256: and 64 digits"),
    "another word": (["", f"alice {HASH} uploads"], "line 2: 'uploads' is not admin, upload or"),
    "a name with a path": ([f"../alice {HASH}"], "'../alice' is not a name"),
    "the operator": ([f"admin {HASH}"], "'admin' is the user of --token-file"),
    "twice": (
        [f"a {HASH}", f"a sha256:{'1' * 64}"],
        "line 2: the user or the token of 'a' appears twice",
    ),
    "one token": ([f"a {HASH}", f"b {HASH}"], "the user or the token of 'b' appears twice"),
    "no number": ([f"a {HASH} workers=many"], "'workers=many' is not"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_wrong_line_is_named(tmp_path: Path, case: tuple[list[str], str]) -> None:
    with pytest.raises(JobError) as refused:
        read_users(written(tmp_path, *case[0]))
    assert case[1] in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(JobError, match="others can read or change it; chmod 600"):
        read_users(written(tmp_path, f"a {HASH}", mode=mode))


def test_the_verb_makes_lines_that_are_read(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        for name, *may in (("alice", "--upload", "--workers", "3"), ("root", "--admin")):
            words = ("user", name, "--users", "users.txt", "--token-file", f"{name}.token", *may)
            done = run_errorcast(*words, cwd=tmp_path)
            assert (done.code, done.err) == (0, "")
            token = (tmp_path / f"{name}.token").read_text().strip()
            assert len(token) >= 40
            assert token not in done.out + (tmp_path / "users.txt").read_text()
    finally:
        os.umask(old)
    for file in ("users.txt", "alice.token"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
    users = Users(None, tmp_path / "users.txt")
    alice = users.bearing(f"Bearer {(tmp_path / 'alice.token').read_text().strip()}".encode())
    assert alice == User("alice", upload=True, workers=3)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("alice",), "has a user 'alice'; remove that line first"),
        (("a/b",), "'a/b' is not a name"),
        (("admin",), "is the user of --token-file"),
        (("bob", "--token-file", "there"), "there: exists already; name a new file"),
        (("bob", "--token-file", "no/where"), "no/where: cannot be written"),
    ],
)
def test_the_verb_refuses_in_one_line(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    file = written(tmp_path, f"alice {HASH}")
    (tmp_path / "there").touch()
    before = file.read_text()
    ways = ("--users", "users.txt", "--token-file", "new")
    done = run_errorcast("user", words[0], *ways, *words[1:], cwd=tmp_path)
    assert done.code == 2
    assert text in done.err
    assert len(done.err.splitlines()) == 1
    assert file.read_text() == before
    assert not (tmp_path / "new").exists()
