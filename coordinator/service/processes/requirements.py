"""Installs what the requirements.txt of uploaded code asks for, in a folder of that code's own.

What the service's environment has already stays as it is there: versions that contradict it are
refused by pip.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from coordinator.service.errors import BAD_JOB, NOT_ALLOWED, ServiceError

FILE = "requirements.txt"
_INSTALL_S = 900.0
_MOST_LINES = 200


def read_requirements(file: Path) -> list[Requirement]:
    """Return the packages that a requirements file asks for.

    Raises ServiceError for what is not a line such as `einops>=0.8`: an option, an address, a path.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ServiceError(BAD_JOB, f"{FILE}: is not UTF-8 text") from error
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            one = Requirement(text)
        except InvalidRequirement as error:
            raise ServiceError(
                BAD_JOB, f"{FILE}, line {number}: '{text[:80]}' is not a line such as einops>=0.8"
            ) from error
        if one.url is not None:
            raise ServiceError(BAD_JOB, f"{FILE}, line {number}: an address is not accepted")
        found.append(one)
    if len(found) > _MOST_LINES:
        raise ServiceError(BAD_JOB, f"{FILE}: asks for more than {_MOST_LINES} packages")
    return found


def missing(asked: list[Requirement]) -> list[str]:
    """Return which of these the service's environment does not have."""
    return [str(one) for one in asked if not _is_there(one)]


def refuse(lacking: list[str]) -> None:
    """Raise ServiceError: the operator has not allowed to install packages."""
    raise ServiceError(
        NOT_ALLOWED,
        f"{FILE}: {', '.join(lacking)} would have to be installed, and the service was started "
        f"without --allow-requirements",
    )


async def install(asked: list[Requirement], to: Path) -> None:
    """Install packages and what they need into a folder that is not there yet.

    Raises ServiceError where pip cannot; then the folder is not there.
    """
    with tempfile.TemporaryDirectory(prefix="packages-", dir=to.parent) as made:
        folder = Path(made)
        python = await asyncio.to_thread(_environment, folder / "venv")
        (folder / "have.txt").write_text(_installed(), encoding="utf-8")
        await _pip(
            *("--python", str(python), "install", "--no-compile"),
            *("--constraint", str(folder / "have.txt"), *map(str, asked)),
        )
        site = _site_of(folder / "venv")
        (site / "errorcast.pth").unlink()
        shutil.move(site, to)


async def _pip(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        printed, said = await asyncio.wait_for(process.communicate(), _INSTALL_S)
    except TimeoutError as error:
        raise ServiceError(
            BAD_JOB, f"{FILE}: could not be installed within {_INSTALL_S / 60:.0f} minutes"
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise ServiceError(BAD_JOB, f"{FILE}: cannot be installed: {_why(printed, said)}")


def _why(printed: bytes, said: bytes) -> str:
    """Return what pip says about a failure: its first error, and which versions contradict."""
    errors = said.decode(errors="replace").splitlines() or ["pip gives no reason"]
    first = next((line for line in errors if line.startswith("ERROR:")), errors[-1])
    _, _, conflict = printed.decode(errors="replace").partition("The conflict is caused by:")
    causes = "; ".join(line.strip() for line in conflict.partition("\n\n")[0].split("\n")[1:])
    return f"{first.removeprefix('ERROR:').strip()}{causes and f' ({causes})'}"


def _environment(folder: Path) -> Path:
    """Make an environment that sees the service's packages; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    ours = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    seen = [place for place in sys.path if place in ours or place.endswith("-packages")]
    (_site_of(folder) / "errorcast.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def _site_of(folder: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"


def _installed() -> str:
    """Return the versions of all packages of the service's environment, as pip's constraints."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return "\n".join(f"{name}=={version}" for name, version in sorted(found.items()) if name)


def _is_there(one: Requirement) -> bool:
    if one.marker is not None and not one.marker.evaluate():
        return True
    try:
        version = importlib.metadata.version(one.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    if one.extras:  # pip finds out what they need
        return False
    return one.specifier.contains(version, prereleases=True)
