"""Thousands of hostile requests: each gets a proper status, and the service continues as before."""

import random
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from errorcast.v1 import service_pb2 as pb
from errorcast.v1.job_pb2 import JobSpec
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.running import NO_RAY, Running, serving

SERVICE = pb.DESCRIPTOR.services_by_name["TrainingService"]
PROPER = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
TEXTS = [
    "",
    "latest",
    "../../etc/passwd",
    "/etc/passwd",
    "a\x00b",
    "\x1b[2J\x07\r\n",
    "'; DROP TABLE jobs; --",
    "digits-0001",
    "%s%n{}",
    "\u202e\ufeff\U0001f600",
    "x" * 5000,
    "../outside.py:make",
    "digits:digits",
    ".py:f",
    "digits",
]
NUMBERS = [0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**31)]
REALS = [0.0, -1.0, 1e308, float("inf"), float("nan"), 1e-320]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "code").mkdir()
    (folder / "outside.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    (folder / "code" / "link.py").symlink_to(folder / "outside.py")
    opened = ("--allow-code", str(folder / "code"), "--allow-uploads")
    with serving(folder / "state", *NO_RAY, *opened) as running:
        yield running


class Caller:
    """Sends bytes to any method and counts the answers."""

    def __init__(self, running: Running) -> None:
        options = [("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(running.address, options)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self.state, self.answers = str(running.state), Counter[grpc.StatusCode]()
        self.methods = {
            method.name: getattr(
                self.channel,
                f"{'stream' if method.client_streaming else 'unary'}_"
                f"{'stream' if method.server_streaming else 'unary'}",
            )(f"/{SERVICE.full_name}/{method.name}")
            for method in SERVICE.methods
        }

    def send(self, method: str, body: bytes) -> grpc.StatusCode:
        kind = SERVICE.methods_by_name[method]
        code, text = grpc.StatusCode.OK, ""
        waits = kind.server_streaming  # for an event that may never come
        try:
            answer = self.methods[method](
                iter([body]) if kind.client_streaming else body, timeout=5 if waits else 60
            )
            if waits:
                next(answer, None)
                answer.cancel()
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
            if waits and code == grpc.StatusCode.DEADLINE_EXCEEDED:
                code = grpc.StatusCode.OK
        self.answers[code] += 1
        assert code in PROPER, (method, body[:200], code, text)
        assert "Traceback" not in text
        assert self.state not in text
        assert text == "" or text.isprintable()
        return code

    def healthy(self) -> None:
        answer = self.health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def caller(fuzzed: Running) -> Iterator[Caller]:
    made = Caller(fuzzed)
    yield made
    made.channel.close()


def filled(message: Message, rng: random.Random, depth: int = 0) -> Message:
    """Set some fields to values that nobody sensible sends."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.4:
            continue
        many = field.is_repeated
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry or depth > 3:
                continue
            inner = getattr(message, field.name)
            filled(inner.add() if many else inner, rng, depth + 1)
            continue
        if field.type in (field.TYPE_STRING,):
            value: object = rng.choice(TEXTS)
        elif field.type == field.TYPE_BYTES:
            value = rng.randbytes(rng.choice([0, 1, 30, 4000]))
        elif field.type in (field.TYPE_DOUBLE, field.TYPE_FLOAT):
            value = rng.choice(REALS)
        elif field.type == field.TYPE_BOOL:
            value = rng.random() < 0.5
        else:
            value = rng.choice(NUMBERS)
        try:
            if many:
                getattr(message, field.name).extend([value] * rng.choice([1, 3, 20]))
            else:
                setattr(message, field.name, value)
        except (ValueError, TypeError):
            continue  # protobuf itself would not send it
    return message


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\x0a\x03abc")
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at:at] = rng.randbytes(rng.randint(1, 9))
            case _:
                del changed[at : at + rng.randint(1, 9)]
                changed = changed or bytearray(b"\xff")
    return bytes(changed)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1_500, marks=pytest.mark.service),
        pytest.param(10_000, marks=pytest.mark.endurance),
    ],
)
def test_hostile_requests_get_a_proper_status(fuzzed: Running, caller: Caller, count: int) -> None:
    caller.answers.clear()
    rng = random.Random(20261125)
    before = sorted(str(p) for p in fuzzed.state.parent.iterdir())
    requests = {m.name: getattr(pb, m.input_type.name) for m in SERVICE.methods}
    host, port = fuzzed.address.split(":")
    for number in range(count):
        method = rng.choice(list(requests))
        kind = number % 10
        if kind < 2:  # not even HTTP/2
            with socket.create_connection((host, int(port)), timeout=10) as raw:
                raw.sendall(
                    rng.choice([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""]) + rng.randbytes(99)
                )
        elif kind < 4:
            caller.send(method, rng.randbytes(rng.choice([0, 1, 5, 60, 900])))
        elif kind < 7:
            caller.send(method, filled(requests[method](), rng).SerializeToString())
        else:
            caller.send(method, mutated(filled(requests[method](), rng).SerializeToString(), rng))
        if number % 100 == 0:
            caller.healthy()
    caller.healthy()
    assert fuzzed.process.poll() is None
    assert caller.answers[grpc.StatusCode.INVALID_ARGUMENT] > count / 10, caller.answers
    assert sorted(str(p) for p in fuzzed.state.parent.iterdir()) == before


def test_a_hundred_megabytes_are_refused(caller: Caller) -> None:
    huge = pb.GetJobRequest(job_id="x" * 100_000_000).SerializeToString()
    for method in ("GetJob", "SubmitJob", "Predict"):
        assert caller.send(method, huge) is grpc.StatusCode.RESOURCE_EXHAUSTED
    caller.healthy()


@pytest.mark.parametrize(
    "task",
    ["link.py:make", "../outside.py:make", "code/../../outside.py:make", "/proc/self/environ.py:f"],
)
def test_code_outside_the_opened_folder_is_not_run(caller: Caller, task: str) -> None:
    spec = pb.SubmitJobRequest(spec=JobSpec(task=task), request_id="request-of-a-link")
    assert caller.send("SubmitJob", spec.SerializeToString()) is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f"])
def test_undecodable_bytes_are_an_invalid_argument(caller: Caller, body: bytes) -> None:
    for method in SERVICE.methods:
        assert caller.send(method.name, body) is grpc.StatusCode.INVALID_ARGUMENT, method.name


def test_a_client_has_a_limited_number_of_streams(fuzzed: Running) -> None:
    with fuzzed.client() as client:
        job = client.submit(task="digits")
    request = pb.WatchJobRequest(job_id=job.id).SerializeToString()
    path = f"/{SERVICE.full_name}/WatchJob"
    with grpc.insecure_channel(fuzzed.address) as channel:
        streams = [channel.unary_stream(path)(request, timeout=60) for _ in range(300)]
        for stream in streams:
            next(stream)
        with pytest.raises(grpc.RpcError) as refused:
            next(channel.unary_stream(path)(request, timeout=60))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.details() == "TOO_MUCH: 300 streams of this client are open"
        for stream in streams:
            stream.cancel()


def test_data_outside_the_roots_is_not_read(caller: Caller, tmp_path: Path) -> None:
    for place in (str(tmp_path), "../..", "/", "a\x00b"):
        spec = JobSpec(task="mnist", data_dir=place)
        request = pb.SubmitJobRequest(spec=spec, request_id="request-of-a-path")
        code = caller.send("SubmitJob", request.SerializeToString())
        assert code is grpc.StatusCode.PERMISSION_DENIED
