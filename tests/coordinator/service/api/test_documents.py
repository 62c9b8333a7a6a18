"""The pages about the service, and README, show commands of one that work, in their order."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from errorcast.v1.event_pb2 import Event
from errorcast.v1.job_pb2 import JOB_STATE_PAUSED
from support.command_line import ERRORCAST, run_errorcast
from support.documents import GUIDE, README, ROOT, Command, asks_a_service, blocks, commands
from support.running import NO_RAY, Running, serving, until_cluster

SEND_CODE, SECURE, API = (
    ROOT / "docs" / name
    for name in ("how-to/send-code.md", "how-to/secure.md", "reference/service.md")
)
PAGES = (GUIDE, SEND_CODE, SECURE, README)
SHOWN = [words for p in PAGES for words in commands(p, "errorcast") if asks_a_service(words)]


def is_run(words: list[str]) -> bool:
    """Return whether a command is one to run: another service's address is not there."""
    return asks_a_service(words) and words[1] != "serve" and "--address" not in words


USED = [words for words in SHOWN if is_run(words)]
VERBS = {
    *("submit", "watch", "jobs", "job", "logs", "pause", "scale", "resume", "download"),
    *("predict", "delete", "user"),
}


def test_the_guides_commands_are_understood() -> None:
    """And run, in `make endurance`."""
    assert {words[1] for words in USED} >= VERBS
    for words in SHOWN:
        assert Command.parse(words).verb == words[1]
    for program in blocks(GUIDE, "python"):
        compile(program, "service.md", "exec")


def in_order(page: Path) -> Iterator[list[str]]:
    """Yield the commands and programs of a page that are to be run."""
    fenced = re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    for language, text in fenced:
        if language == "python" and page == GUIDE:
            yield [sys.executable, "-c", text]
        lines = text.replace("\\\n", " ").splitlines()
        for line in lines if language == "sh" else ():
            words = shlex.split(line, comments=True)
            if words and words[0] == "errorcast" and is_run(words):
                yield words


def until_paused(running: Running) -> None:
    """Wait as the guide says: a job that is still being paused cannot be resumed."""
    with running.client() as client:
        for news in client.watch("latest"):
            if isinstance(news, Event) and news.state.state == JOB_STATE_PAUSED:
                return


@pytest.mark.endurance
@pytest.mark.timeout(1200)
def test_the_guides_commands_and_code_run(tmp_path: Path) -> None:
    for folder in ("deploy", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    with serving(tmp_path / "state", "--cpus", "2", "--allow-uploads") as running:
        until_cluster(running.address)
        environment = {
            **os.environ,
            **running.environment,
            "PATH": f"{ERRORCAST.parent}{os.pathsep}{os.environ['PATH']}",
        }
        for page in PAGES:
            for name in ("users.txt", "alice.token"):  # two pages make the same user
                (tmp_path / name).unlink(missing_ok=True)
            for words in in_order(page):
                done = subprocess.run(
                    words,
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
                if words[1] == "pause":
                    until_paused(running)
        assert np.load(tmp_path / "y.npy").argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_the_flags_that_operators_need_are_there() -> None:
    helps = (run_errorcast(verb, "--help", COLUMNS="200").out for verb in ("serve", "user"))
    shown = "".join(helps)
    served = [words for words in SHOWN if words[1] == "serve"]
    assert served
    named = {w for words in served for w in words if w.startswith("--")}
    for page in (GUIDE, SEND_CODE, SECURE, API):
        named |= set(re.findall(r"`(--[a-z-]+)", free_text(page)))
    for flag in named - {"--priority", "--watch"}:
        assert flag in shown, flag


def free_text(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```", "", page.read_text("utf-8"), flags=re.M | re.S)


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
