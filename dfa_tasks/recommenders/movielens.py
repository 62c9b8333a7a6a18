"""MovieLens 100K as clicks: a click is a rating of 4 or more."""

from functools import partial

import torch
from torch.utils.data import TensorDataset

from dfa_tasks.download import fetch
from dfa_tasks.recommenders.fields import Vocabulary
from dfa_tasks.recommenders.rows import rows
from dfa_tasks.task import Splits

FILES = ("u.data", "u.item", "u.user")
HOMES = ("https://files.grouplens.org/datasets/movielens/ml-100k/",)
CLICK = 4
_GENRES = slice(5, 24)

fetch_movielens = partial(fetch, "movielens-100k", FILES, HOMES)


class MovieLens:
    """Users, films and ratings: eight tenths to train, one to validate and one to test.

    Fields: user, film, age, gender, occupation, genres (all genres of a film as one), year.
    """

    def __init__(self, data_dir: str) -> None:
        """Read users and films. Raises JobError, with file and line, for a malformed row."""
        self._folder = fetch_movielens(data_dir)
        self._users = dict(rows(self._folder / "u.user", 5, self._user))
        self._films = dict(rows(self._folder / "u.item", 24, self._film))
        ages, genders, occupations = zip(*self._users.values(), strict=True)
        genres, years = zip(*self._films.values(), strict=True)
        self.vocabulary = Vocabulary.of(
            {
                "user": self._users,
                "film": self._films,
                "age": ages,
                "gender": genders,
                "occupation": occupations,
                "genres": genres,
                "year": years,
            }
        )

    @staticmethod
    def _user(row: list[str]) -> tuple[str, tuple[str, ...]]:
        number, age, gender, occupation, _ = row
        return str(int(number)), (str(int(age)), gender, occupation)

    @staticmethod
    def _film(row: list[str]) -> tuple[str, tuple[str, ...]]:
        year = row[2].rpartition("-")[2]  # one film has no date
        return str(int(row[0])), ("".join(row[_GENRES]), year)

    @staticmethod
    def _rating(row: list[str]) -> tuple[str, str, int]:
        user, film, rating, _ = row
        if not 1 <= int(rating) <= 5:
            raise ValueError(f"a rating of {rating}")
        return str(int(user)), str(int(film)), int(rating)

    def splits(self) -> Splits:
        """Return (ids of each field, click) pairs, split at random, but always in the same way."""
        nobody, nothing = ("",) * 3, ("",) * 2
        ids, clicks = [], []
        for user, film, rating in rows(self._folder / "u.data", 4, self._rating):
            about = self._users.get(user, nobody) + self._films.get(film, nothing)
            ids.append(self.vocabulary.encode((user, film, *about)))
            clicks.append(float(rating >= CLICK))
        x, click = torch.tensor(ids), torch.tensor(clicks)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        tenth = len(x) // 10
        test, validation, train = order[:tenth], order[tenth : 2 * tenth], order[2 * tenth :]
        return Splits(
            train=TensorDataset(x[train], click[train]),
            validation=TensorDataset(x[validation], click[validation]),
            test=TensorDataset(x[test], click[test]),
        )
