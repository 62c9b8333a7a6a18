"""Which code trains: the commit of the checkout that it is in."""

import shutil
import subprocess
from pathlib import Path

_HERE = Path(__file__).resolve()
_CODE = ("coordinator", "dfa_core", "dfa_speedup", "dfa_tasks", "workers", "proto")


def commit_of_code() -> tuple[str, bool]:
    """Return the commit, and whether the code differs from it; no commit outside a checkout."""
    root = _HERE.parents[3]
    if not _git(root, "ls-files", "--", str(_HERE)):
        return "", False
    changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--", *_CODE)
    return _git(root, "rev-parse", "--short=10", "HEAD"), bool(changed)


def _git(folder: Path, *words: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run(  # noqa: S603  # nothing of the user's is in it
        [git, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
