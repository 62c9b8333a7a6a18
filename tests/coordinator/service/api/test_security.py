"""Who may talk to a service: the token on every method, TLS, and where it listens."""

import datetime
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme
from errorcast.v1 import service_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from support.running import ERRORCAST, NO_RAY, TOKEN, Running, serving

from coordinator.client import Client, ServiceRefused, ServiceUnreachable


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("secured")
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    tls = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    with serving(folder / "state", *tls, *NO_RAY, token=TOKEN) as running:
        yield running


def pem(authority: trustme.CA) -> bytes:
    return authority.cert_pem.bytes()


def channel(running: Running, authority: trustme.CA) -> grpc.Channel:
    return grpc.secure_channel(running.address, grpc.ssl_channel_credentials(pem(authority)))


def every_method() -> list[tuple[str, bool, bool]]:
    """All methods of all services that a server has: (path, requests stream, responses stream)."""
    services = [
        *service_pb2.DESCRIPTOR.services_by_name.values(),
        *reflection_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    return [
        (f"/{s.full_name}/{m.name}", m.client_streaming, m.server_streaming)
        for s in services
        for m in s.methods
    ]


def call(
    channel: grpc.Channel,
    path: str,
    requests_stream: bool,
    responses_stream: bool,
    metadata: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
) -> grpc.StatusCode:
    request = iter([body]) if requests_stream else body
    words = {True: "stream", False: "unary"}
    make = getattr(channel, f"{words[requests_stream]}_{words[responses_stream]}")
    try:
        answer = make(path)(request, timeout=10, metadata=metadata)
        if responses_stream:
            list(answer)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("path", every_method(), ids=lambda p: p[0])
def test_no_method_answers_without_the_token(
    secured: Running, authority: trustme.CA, path: tuple[str, bool, bool]
) -> None:
    with channel(secured, authority) as plain:
        for metadata in (
            (),
            (("authorization", "Bearer wrong"),),
            (("authorization", TOKEN),),
            (("authorization", f"Bearer {TOKEN}x"),),
        ):
            assert call(plain, *path, metadata) is grpc.StatusCode.UNAUTHENTICATED
        with_token = call(plain, *path, (("authorization", f"Bearer {TOKEN}"),))
        assert with_token is not grpc.StatusCode.UNAUTHENTICATED


def test_unknown_methods_reveal_nothing_without_the_token(
    secured: Running, authority: trustme.CA
) -> None:
    with channel(secured, authority) as plain:
        unknown = ("/errorcast.v1.TrainingService/Nothing", False, False)
        assert call(plain, *unknown) is grpc.StatusCode.UNAUTHENTICATED
        bearer = (("authorization", f"Bearer {TOKEN}"),)
        assert call(plain, *unknown, bearer) is grpc.StatusCode.UNIMPLEMENTED


def test_the_reflection_lists_what_there_is(secured: Running, authority: trustme.CA) -> None:
    with channel(secured, authority) as plain:
        stub = reflection_pb2_grpc.ServerReflectionStub(plain)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        bearer = (("authorization", f"Bearer {TOKEN}"),)
        answer = next(stub.ServerReflectionInfo(iter([request]), metadata=bearer))
        names = {s.name for s in answer.list_services_response.service}
        assert names == {
            "errorcast.v1.TrainingService",
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        }


def test_health_needs_no_token_and_is_correct(secured: Running, authority: trustme.CA) -> None:
    with channel(secured, authority) as plain:
        stub = health_pb2_grpc.HealthStub(plain)
        assert stub.Check(health_pb2.HealthCheckRequest()).status == 1
        service = health_pb2.HealthCheckRequest(service="errorcast.v1.TrainingService")
        assert (
            stub.Check(service).status == health_pb2.HealthCheckResponse.NOT_SERVING
        )  # no cluster


def test_the_right_token_is_let_in(secured: Running, authority: trustme.CA) -> None:
    with Client(secured.address, TOKEN, pem(authority)) as client:
        assert list(client.jobs()) == []
    with (
        Client(secured.address, "another-token-0123456789", pem(authority)) as client,
        pytest.raises(ServiceRefused, match="NO_TOKEN") as refused,
    ):
        client.job("latest")
    assert refused.value.status is grpc.StatusCode.UNAUTHENTICATED


def refused_at_once(*strangers: Client) -> list[str]:
    """All of these get no answer; each tries again for seconds, so they try at the same time."""

    def failure(client: Client) -> str:
        with client, pytest.raises(ServiceUnreachable) as refused:
            client.job("latest")
        return str(refused.value)

    with ThreadPoolExecutor(len(strangers)) as pool:
        return list(pool.map(failure, strangers))


def test_who_does_not_speak_our_tls_is_refused(
    secured: Running, tmp_path: Path, authority: trustme.CA
) -> None:
    """Plain text; an authority that signed nothing here; a certificate that has expired."""
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    made = authority.issue_cert(
        "127.0.0.1", not_before=past, not_after=past + datetime.timedelta(1)
    )
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    with serving(tmp_path / "state", *tls, *NO_RAY) as expired:
        plain, _, _ = refused_at_once(
            Client(secured.address, TOKEN),
            Client(secured.address, TOKEN, pem(trustme.CA())),
            Client(expired.address, None, pem(authority)),
        )
    assert "TLS" in plain


@pytest.mark.service
def test_mutual_tls(tmp_path: Path, authority: trustme.CA) -> None:
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    made.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine, foreign = authority.issue_cert("me@example.org"), trustme.CA().issue_cert("x@example.org")

    def pair(made: trustme.LeafCert) -> tuple[bytes, bytes]:
        return made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()

    files = {"tls-cert": "cert.pem", "tls-key": "key.pem", "tls-client-ca": "ca.pem"}
    flags = [part for k, v in files.items() for part in (f"--{k}", str(tmp_path / v))]
    with serving(tmp_path / "state", *flags, *NO_RAY) as running:
        with Client(running.address, None, pem(authority), pair(mine)) as client:
            assert list(client.jobs()) == []
        refused_at_once(
            *(Client(running.address, None, pem(authority), p) for p in (None, pair(foreign)))
        )


REFUSED = {
    "open to all": (["--listen", "0.0.0.0:0"], "an address beyond loopback needs --token-file"),
    "no TLS": (["--listen", "0.0.0.0:0", "--token-file", "token"], "needs --tls-cert"),
    "an open page": (["--web", "0.0.0.0:0"], "--web 0.0.0.0:0: an address beyond loopback"),
    "IPv6": (["--listen", "[::]:0"], "beyond loopback"),
    "half of TLS": (["--tls-cert", "c.pem"], "--tls-cert and --tls-key: give both"),
    "no address": (["--listen", "here"], "--listen here: must look like 127.0.0.1:7070"),
    "a short token": (["--token-file", "short"], "at least 16 visible ASCII characters"),
    "no token file": (["--token-file", "none"], "none: cannot be read"),
    "no certificate": (["--tls-cert", "none", "--tls-key", "none"], "none: cannot be read"),
    "no users file": (["--users", "none"], "--users none: cannot be read"),
    "users for all to read": (["--users", "users"], "--users users: others can read or change it"),
    "packages alone": (["--allow-requirements"], "--allow-requirements needs --allow-uploads"),
    "a certificate that is none": (["--tls-cert", "token", "--tls-key", "token"], "--listen"),
}


@pytest.mark.service
@pytest.mark.parametrize("flags", REFUSED.values(), ids=REFUSED)
def test_a_careless_service_does_not_start(tmp_path: Path, flags: tuple[list[str], str]) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    (tmp_path / "short").write_text("secret", encoding="utf-8")
    (tmp_path / "users").write_text("", encoding="utf-8")
    (tmp_path / "users").chmod(0o644)
    done = subprocess.run(
        [ERRORCAST, "serve", "--state", "state", *flags[0], *NO_RAY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert flags[1] in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert TOKEN not in done.stdout + done.stderr


def test_files_of_the_state_are_the_owners(secured: Running) -> None:
    token = secured.state.with_name("token")
    if token.stat().st_mode & 0o004:
        assert f"warning: others can read {token}: chmod 600 {token}\n" in secured.said
    assert secured.state.stat().st_mode & 0o077 == 0
    log = (secured.state / "service.log").read_text(encoding="utf-8")
    assert TOKEN not in log
    for line in log.splitlines():
        assert {"levelname", "name", "message"} <= set(json.loads(line))
