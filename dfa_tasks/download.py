"""Finds data files in the user's folders, or downloads them from their homes into the cache."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import stamina
from platformdirs import user_cache_path
from rich.progress import Progress

from dfa_core import JobError

_CHUNK = 1 << 16
_TIMEOUT_S = 30


def cache_folder() -> Path:
    """Return the folder for downloads: ERRORCAST_CACHE, else the user's cache folder."""
    named = os.environ.get("ERRORCAST_CACHE")
    return Path(named) if named else user_cache_path("errorcast")


def find(dataset: str, names: Sequence[str], data_dir: str) -> Path | None:
    """Return the first folder that holds all files of a data set, or None.

    data_dir: the user's choice; empty takes ERRORCAST_DATA. The files lie in it directly or in a
    folder of the data set's name; the cache is looked at last.

    Raises JobError when data_dir was named and lacks the files.
    """
    given = data_dir or os.environ.get("ERRORCAST_DATA", "")
    roots = [Path(given) / dataset, Path(given)] if given else []
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

    homes: addresses that the file names are appended to, tried in order.

    Raises JobError, saying what to put where, when no home can be reached.
    """
    found = find(dataset, names, data_dir)
    if found is not None:
        return found
    folder = cache_folder() / dataset
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (folder / name).is_file():
                _fetch_file(folder / name, [home + name for home in homes])
    except OSError as error:
        raise JobError(
            f"{dataset} is not on this machine and could not be downloaded ({error}); put "
            f"{', '.join(names)} into {folder}, or name their folder with --data-dir or "
            f"ERRORCAST_DATA"
        ) from error
    return folder


def _fetch_file(path: Path, addresses: Sequence[str]) -> None:
    for address in addresses[:-1]:
        try:
            return _download(address, path)
        except OSError:
            continue
    return _download(addresses[-1], path)


def _worth_a_retry(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code >= 500
    return isinstance(error, URLError | OSError)


@stamina.retry(on=_worth_a_retry, attempts=3, wait_initial=0.2, wait_max=2.0, timeout=120)
def _download(address: str, path: Path) -> None:
    """Download into a file beside `path` and rename it, so that no half of a file ever counts."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # S310: the addresses are the data sets' own
        with urlopen(address, timeout=_TIMEOUT_S) as answer, Progress(transient=True) as bars:  # noqa: S310
            size = int(answer.headers.get("Content-Length", 0))
            bar = bars.add_task(path.name, total=size or None)
            with partial.open("wb") as file:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    bars.update(bar, advance=len(chunk))
            if size and partial.stat().st_size != size:
                raise ConnectionError(f"{address} broke off after {partial.stat().st_size} bytes")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
