"""docs/service.md and README show commands of a service that work, in their order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import ERRORCAST, run_errorcast
from support.documents import GUIDE, README, ROOT, Command, asks_a_service, blocks, commands
from support.running import NO_RAY, serving, until_cluster

SHOWN = [
    words for p in (GUIDE, README) for words in commands(p, "errorcast") if asks_a_service(words)
]
USED = [words for words in SHOWN if words[1] != "serve"]


def test_the_guides_commands_are_understood() -> None:
    """And run, in `make endurance`."""
    assert len(USED) == 13
    for words in SHOWN:
        assert Command.parse(words).verb == words[1]
    (program,) = blocks(GUIDE, "python")
    compile(program, "service.md", "exec")


@pytest.mark.endurance
@pytest.mark.timeout(400)
def test_the_guides_commands_and_code_run(tmp_path: Path) -> None:
    for folder in ("deploy", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    np.save(tmp_path / "x.npy", np.zeros((5, 64), np.float32))
    with serving(tmp_path / "state", "--cpus", "2", "--allow-uploads") as running:
        until_cluster(running.address)
        environment = {
            **os.environ,
            **running.environment,
            "PATH": f"{ERRORCAST.parent}{os.pathsep}{os.environ['PATH']}",
        }
        programs = [[sys.executable, "-c", code] for code in blocks(GUIDE, "python")]
        assert len(USED) == 13
        assert len(programs) == 1
        for words in [*USED, *programs]:
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        assert np.load(tmp_path / "y.npy").shape == (5, 10)


def test_the_flags_of_serve_are_there() -> None:
    shown = run_errorcast("serve", "--help", COLUMNS="200").out
    served = [words for words in SHOWN if words[1] == "serve"]
    assert len(served) == 5
    named = {w for words in served for w in words if w.startswith("--")}
    named |= set(re.findall(r"`(--[a-z-]+)", blocks_free_text()))
    for flag in named - {"--address", "--tls-ca", "--format", "--blocks"}:
        assert flag in shown, flag


def blocks_free_text() -> str:
    return re.sub(r"^```.*?^```", "", GUIDE.read_text("utf-8"), flags=re.M | re.S)


@pytest.mark.service
def test_the_test_authority_is_one_that_a_service_takes(tmp_path: Path) -> None:
    script = ROOT / "deploy" / "certs" / "make_test_ca.sh"
    subprocess.run([script, tmp_path / "tls", "localhost", "127.0.0.1"], check=True)
    tls = tmp_path / "tls"
    flags = ("--tls-cert", str(tls / "service.pem"), "--tls-key", str(tls / "service-key.pem"))
    with serving(
        tmp_path / "state", *flags, "--tls-client-ca", str(tls / "ca.pem"), *NO_RAY
    ) as running:
        pair = ((tls / "client-key.pem").read_bytes(), (tls / "client.pem").read_bytes())
        authority = (tls / "ca.pem").read_bytes()
        with running.client(tls_ca=authority, certificate=pair) as client:
            assert list(client.jobs()) == []
        shown = run_errorcast(
            "jobs",
            **running.environment,
            ERRORCAST_TLS_CA=str(tls / "ca.pem"),
            ERRORCAST_TLS_CERT=str(tls / "client.pem"),
            ERRORCAST_TLS_KEY=str(tls / "client-key.pem"),
        )
        assert "no jobs yet" in shown.out, shown.err
    assert (tls / "ca-key.pem").stat().st_mode & 0o077 == 0
