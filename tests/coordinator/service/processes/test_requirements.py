"""What requirements.txt asks for is installed beside the service's packages, and changes none."""

import asyncio
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from coordinator.service.errors import BAD_JOB, ServiceError
from coordinator.service.processes.requirements import install, missing, read_requirements

pytestmark = pytest.mark.blocks


def wheel(folder: Path, name: str, number: str, needs: str) -> None:
    """Write a package of one module, as pip takes it."""
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\nRequires-Dist: {needs}\n"
    kind = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = f"{name}-{number}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"N = '{number}'\n")
        file.writestr(f"{info}/METADATA", about)
        file.writestr(f"{info}/WHEEL", kind)
        file.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index without a network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def asked(*lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines]


def test_a_package_comes_without_what_is_there(tmp_path: Path, index: Path) -> None:
    wheel(index, "ours_of_a_test", "1.0", "numpy>=1")
    wheel(index, "ours_of_a_test", "2.0", "numpy>=1")
    there = tmp_path / "packages"
    asyncio.run(install(asked("ours-of-a-test<2", f"torch=={version('torch')}"), there))
    assert {p.name.partition("-")[0] for p in there.iterdir()} == {
        "ours_of_a_test.py",
        "ours_of_a_test",
    }
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("index", "packages")] == []
    program = "import sys; sys.path.append(sys.argv[1]); import ours_of_a_test as m; print(m.N)"
    done = subprocess.run([sys.executable, "-c", program, there], capture_output=True, check=True)
    assert done.stdout == b"1.0\n"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            ("nothing-of-this-name",),
            "Could not find a version that satisfies the requirement nothing-of-this-name",
        ),
        (("wants-old-numpy",), "wants-old-numpy 1.0 depends on numpy<1.5; The user requested"),
    ],
)
def test_what_cannot_be_installed_leaves_nothing(
    tmp_path: Path, index: Path, lines: tuple[str, ...], text: str
) -> None:
    wheel(index, "wants_old_numpy", "1.0", "numpy<1.5")
    before = version("numpy")
    with pytest.raises(ServiceError) as refused:
        asyncio.run(install(asked(*lines), tmp_path / "packages"))
    assert refused.value.kind is BAD_JOB
    assert str(refused.value).startswith("BAD_JOB: requirements.txt: cannot be installed: ")
    assert text in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert version("numpy") == before


def test_what_is_there_is_not_missing() -> None:
    lines = (
        "numpy",
        "numpy>=1.20",
        "NumPy",
        "numpy<1",
        "no-such; python_version<'3'",
        "none-of-it",
    )
    assert missing(asked(*lines)) == ["numpy<1", "none-of-it"]


@pytest.mark.parametrize(
    "line",
    ["-e .", "./x", "../x.whl", "git+https://x/y", "x @ https://x/y.whl", "--pre", "a b", "{"],
)
def test_a_line_that_is_no_package_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"# ours\n\nnumpy>=1 # why\n{line}\n")
    with pytest.raises(ServiceError, match="requirements.txt, line 4: "):
        read_requirements(file)
