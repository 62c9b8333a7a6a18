"""A cluster whose hosts have IPv6 addresses alone."""

import secrets
from pathlib import Path

import pytest
from support.hosts import hosts
from support.in_process import train_here
from support.runs import weights


@pytest.mark.endurance
@pytest.mark.timeout(200)
def test_blocks_on_two_hosts_without_ipv4(tmp_path: Path) -> None:
    alone = train_here("digits", tmp_path / "alone", epochs=1)
    token = secrets.token_hex(32)
    with hosts(2, v6=True) as there:
        head, _ = there
        for host in there:
            host.join(head, token)
        said = head.run(
            "errorcast",
            *("train", "digits", "--blocks", "2", "--ray-address", head.at(6379)),
            *("--set", "epochs=1", "--set", "resources.placement=spread"),
            *("--run-dir", str(tmp_path / "run")),
            seconds=120,
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=token,
        )
    assert f"the ranks meet at {head.address}" in said
    assert weights(tmp_path / "run" / "model.safetensors") == weights(
        alone.folder / "model.safetensors"
    )
