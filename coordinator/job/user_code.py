"""Where a user's own modules lie, for the workers to find them too."""

import sys
from pathlib import Path


def own_folders() -> tuple[str, ...]:
    """Return the folders of this process's module path, absolute.

    In a notebook, or under `python -c`, the folder that it was started in is one of them.
    """
    folders = [str(Path(folder or ".").absolute()) for folder in sys.path]
    if getattr(sys.modules.get("__main__"), "__file__", None) is None:
        folders.append(str(Path.cwd()))
    return tuple(folders)
