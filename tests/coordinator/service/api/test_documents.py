"""docs/service.md and README show commands of a service that work, in their order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.running import ERRORCAST, serving, until_cluster

from coordinator.cli.main import ON_A_SERVICE

ROOT = Path(__file__).parents[4]
GUIDE, README = ROOT / "docs" / "service.md", ROOT / "README.md"


def blocks(language: str, path: Path = GUIDE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)


def lines() -> list[list[str]]:
    asking = {verb.__name__ for verb in ON_A_SERVICE}
    shown = [
        shlex.split(line, comments=True)
        for p in (GUIDE, README)
        for b in blocks("sh", p)
        for line in b.splitlines()
    ]
    return [words for words in shown if words and words[0] == "errorcast" and words[1] in asking]


@pytest.mark.service
@pytest.mark.timeout(400)
def test_the_guides_commands_and_code_run(tmp_path: Path) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    np.save(tmp_path / "x.npy", np.zeros((5, 64), np.float32))
    with serving(tmp_path / "state", "--cpus", "2") as running:
        until_cluster(running.address)
        environment = {
            **os.environ,
            "ERRORCAST_ADDRESS": running.address,
            "PATH": f"{ERRORCAST.parent}{os.pathsep}{os.environ['PATH']}",
        }
        used = [words for words in lines() if words[1] != "serve"]
        programs = [[sys.executable, "-c", code] for code in blocks("python")]
        assert len(used) == 11
        assert len(programs) == 1
        for words in [*used, *programs]:
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        assert np.load(tmp_path / "y.npy").shape == (5, 10)


def test_the_flags_of_serve_are_there() -> None:
    shown = subprocess.run(
        [ERRORCAST, "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    ).stdout
    served = [words for words in lines() if words[1] == "serve"]
    assert len(served) == 4
    named = {w for words in served for w in words if w.startswith("--")}
    named |= set(re.findall(r"`(--[a-z-]+)", blocks_free_text()))
    for flag in named - {"--address", "--tls-ca", "--format", "--blocks"}:
        assert flag in shown, flag


def blocks_free_text() -> str:
    return re.sub(r"^```.*?^```", "", GUIDE.read_text("utf-8"), flags=re.M | re.S)


def test_the_test_authority_is_one_that_a_service_takes(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "certs" / "make_test_ca.sh"
    subprocess.run([script, tmp_path / "tls", "localhost", "127.0.0.1"], check=True)
    tls = tmp_path / "tls"
    flags = ("--tls-cert", str(tls / "service.pem"), "--tls-key", str(tls / "service-key.pem"))
    client_ca = ("--tls-client-ca", str(tls / "ca.pem"), "--ray-address", "127.0.0.1:1")
    with serving(tmp_path / "state", *flags, *client_ca) as running:
        pair = ((tls / "client-key.pem").read_bytes(), (tls / "client.pem").read_bytes())
        authority = (tls / "ca.pem").read_bytes()
        with running.client(tls_ca=authority, certificate=pair) as client:
            assert list(client.jobs()) == []
        environment = {
            **os.environ,
            "ERRORCAST_ADDRESS": running.address,
            "ERRORCAST_TLS_CA": str(tls / "ca.pem"),
            "ERRORCAST_TLS_CERT": str(tls / "client.pem"),
            "ERRORCAST_TLS_KEY": str(tls / "client-key.pem"),
        }
        shown = subprocess.run(
            [ERRORCAST, "jobs"], env=environment, capture_output=True, text=True, check=True
        )
        assert "no job yet" in shown.stdout
    assert (tls / "ca-key.pem").stat().st_mode & 0o077 == 0
