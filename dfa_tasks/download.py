"""Finds data files in the user's folders, or downloads them into the cache."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import stamina
from platformdirs import user_cache_path
from rich.console import Console
from rich.progress import Progress

from dfa_core import JobError
from dfa_core.atomic_file import atomic_path

_CHUNK = 1 << 16
_TIMEOUT_S = 30


def cache_folder() -> Path:
    """Return the folder for downloads: ERRORCAST_CACHE, or the user's cache folder without it."""
    named = os.environ.get("ERRORCAST_CACHE")
    return Path(named).expanduser() if named else user_cache_path("errorcast")


def data_folder(data_dir: str) -> Path | None:
    """Return the folder of data sets: the user's choice, ERRORCAST_DATA without it, or None."""
    named = data_dir or os.environ.get("ERRORCAST_DATA", "")
    return Path(named).expanduser() if named else None


def find(dataset: str, names: Sequence[str], data_dir: str) -> Path | None:
    """Return the first folder that holds all files of a data set, or None.

    data_dir: the user's choice; ERRORCAST_DATA is used when it is empty. The files are directly in
        it or in a folder with the data set's name. The cache is searched last.

    Raises JobError when data_dir is given and lacks the files.
    """
    given = data_folder(data_dir)
    roots = [given / dataset, given] if given is not None else []
    for folder in [*roots, cache_folder() / dataset]:
        if all((folder / name).is_file() for name in names):
            return folder
    if data_dir:
        raise JobError(
            f"data_dir: {data_dir} has no {dataset}; put {', '.join(names)} into "
            f"{Path(data_dir) / dataset}"
        )
    return None


def fetch(dataset: str, names: Sequence[str], homes: Sequence[str], data_dir: str) -> Path:
    """Return the folder with the files of a data set, downloading what is missing.

    homes: URLs that end before the file names; they are tried in order.

    Raises JobError, which says which files to put where, when no URL works.
    """
    found = find(dataset, names, data_dir)
    if found is not None:
        return found
    folder = cache_folder() / dataset
    where = (
        f"put {', '.join(names)} into {folder}, or set their folder with --data-dir or "
        f"ERRORCAST_DATA"
    )
    if not homes:
        raise JobError(f"{dataset} is not on this machine, and it is not downloaded; {where}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (folder / name).is_file():
                _fetch_file(folder / name, [home + name for home in homes])
    except OSError as error:
        raise JobError(
            f"{dataset} is not on this machine and could not be downloaded ({error}); {where}"
        ) from error
    return folder


def _fetch_file(path: Path, addresses: Sequence[str]) -> None:
    for address in addresses[:-1]:
        try:
            return _download(address, path)
        except OSError:
            continue
    return _download(addresses[-1], path)


def _bars() -> Progress:
    """Return bars on standard error, for a terminal only: standard output is for results."""
    here = sys.stderr is not None and sys.stderr.isatty()
    return Progress(console=Console(stderr=True), transient=True, disable=not here)


def _worth_a_retry(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= 500
    return isinstance(error, URLError | OSError)


@stamina.retry(on=_worth_a_retry, attempts=3, wait_initial=0.2, wait_max=2.0, timeout=120)
def _download(address: str, path: Path) -> None:
    """Download to a temporary file, then rename it, so that `path` is never an incomplete file."""
    with (
        atomic_path(path) as partial,
        urlopen(address, timeout=_TIMEOUT_S) as answer,  # noqa: S310  # constants of the data sets
        _bars() as bars,
    ):
        size = int(answer.headers.get("Content-Length", 0))
        bar = bars.add_task(path.name, total=size or None)
        with partial.open("wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bars.update(bar, advance=len(chunk))
        if size and partial.stat().st_size != size:
            received = partial.stat().st_size
            raise ConnectionError(f"{address} closed the connection after {received} bytes")
