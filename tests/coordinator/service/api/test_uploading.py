"""Uploads and users over TLS: who may do what, and what is refused with nothing left behind."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from errorcast.v1 import service_pb2 as pb
from errorcast.v1.job_pb2 import JobSpec
from errorcast.v1.service_pb2_grpc import TrainingServiceStub
from support.command_line import Result, run_errorcast
from support.own_project import add_user, audit, messages, project, tls_flags
from support.running import NO_RAY, TOKEN, Running, serving

from coordinator.client import Client, ServiceRefused
from coordinator.client.packing import pack_folder_of

pytestmark = pytest.mark.service

NONE = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Guarded:
    """A service with users, that takes uploads, and what reaches it."""

    def __init__(self, running: Running, authority: trustme.CA, tokens: dict[str, str]) -> None:
        self.running, self.tokens, self.ca = running, tokens, authority.cert_pem.bytes()
        self.uploads = running.state / "uploads"

    def client(self, user: str) -> Client:
        return Client(self.running.address, self.tokens[user], self.ca)

    def errorcast(self, user: str, *words: str, cwd: Path | None = None) -> Result:
        (self.running.state.parent / "ca.pem").write_bytes(self.ca)
        return run_errorcast(
            *words,
            cwd=cwd,
            ERRORCAST_ADDRESS=self.running.address,
            ERRORCAST_TOKEN=self.tokens[user],
            ERRORCAST_TLS_CA=str(self.running.state.parent / "ca.pem"),
        )

    def call(self, user: str, method: str, request: Any) -> Any:
        """Call a method with bytes that a client of ours would not send."""
        credentials = grpc.ssl_channel_credentials(self.ca)
        bearer = (("authorization", f"Bearer {self.tokens[user]}"),)
        with grpc.secure_channel(self.running.address, credentials) as channel:
            stub = TrainingServiceStub(channel)
            return getattr(stub, method)(request, timeout=30, metadata=bearer)

    def refusal(self, user: str, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as refused:
            self.call(user, method, request)
        text = refused.value.details() or ""
        assert text.isprintable()
        assert str(self.running.state) not in text
        return refused.value.code(), text

    def kept(self) -> list[str]:
        """What lies in the folder of uploads, below the users' folders."""
        return sorted(p.name for p in self.uploads.glob("*/*")) if self.uploads.exists() else []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, authority = tmp_path_factory.mktemp("guarded"), trustme.CA()
    tokens = {
        "alice": add_user(folder, "alice", "--upload", "--workers", "3"),
        "anna": add_user(folder, "anna", "--upload"),
        "bob": add_user(folder, "bob"),
        "boss": add_user(folder, "boss", "--admin"),
        "admin": TOKEN,
    }
    flags = (*tls_flags(folder, authority), "--users", str(folder / "users.txt"), "--allow-uploads")
    with serving(folder / "state", *flags, *NO_RAY, token=TOKEN) as running:
        yield Guarded(running, authority, tokens)


def test_code_is_sent_once_and_goes_with_its_last_job(guarded: Guarded, tmp_path: Path) -> None:
    file, before = project(tmp_path / "mine", width=11), len(audit(guarded.running.state))
    digest = pack_folder_of(file).listing.digest
    (tmp_path / "elsewhere").mkdir()
    submit = ("submit", "../mine/mytask.py:make_task", "--format", "json")
    jobs = []
    for _ in range(2):
        done = guarded.errorcast("alice", *submit, cwd=tmp_path / "elsewhere")
        assert done.code == 0, done.err
        jobs.append(json.loads(done.out))
    first = jobs[0]
    assert (first["owner"], first["spec"]["code"]) == ("alice", digest)
    assert first["spec"]["task"] == "mytask.py:make_task"
    assert "working_dir" not in first["spec"]
    size = sum(len(data) for data in pack_folder_of(file).contents)
    assert first["uploaded"] == {"files": 5, "bytes": str(size)}
    assert digest in guarded.kept()
    shown = guarded.errorcast("bob", "job", first["id"]).out  # all see all
    assert f"owner: alice\ncode: 5 files, {size / 1024:.1f} KiB, {digest[:12]}\n" in shown
    lines = audit(guarded.running.state)[before:]
    assert [(one["user"], one["what"], one["about"], one["result"]) for one in lines] == [
        ("alice", "UploadCode", digest, "OK"),
        ("alice", "SubmitJob", jobs[0]["id"], "OK"),
        ("alice", "SubmitJob", jobs[1]["id"], "OK"),
    ]
    with guarded.client("alice") as client:
        for job, stays in zip(jobs, (True, False), strict=True):
            client.cancel(job["id"])
            client.delete(job["id"])
            assert (digest in guarded.kept()) is stays


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("mytsk.py:make_task", "(--allow-code), and is no file where you submit it"),
        ("mytask.py", "task: mytask.py: name its function too: mytask.py:make_task"),
        ("mytask.py:make_tusk", "BAD_JOB: task: mytask.py has no function 'make_tusk'; did you"),
        ("large/mytask.py:make_task", "name in .gitignore what the task does not need"),
    ],
)
def test_a_slip_on_the_command_line_is_one_line(
    guarded: Guarded, tmp_path: Path, task: str, text: str
) -> None:
    project(tmp_path / "mine")
    project(tmp_path / "mine" / "large")
    with (tmp_path / "mine" / "large" / "a.bin").open("wb") as file:
        file.truncate((33 << 20) if task.startswith("large") else 0)
    done = guarded.errorcast("alice", "submit", task, cwd=tmp_path / "mine")
    assert done.code == 2
    assert text in done.err
    assert len(done.err.splitlines()) == 1


def test_who_may_not_upload_is_told_so_and_sends_nothing(guarded: Guarded, tmp_path: Path) -> None:
    file = project(tmp_path / "mine", width=10)
    with guarded.client("bob") as client, pytest.raises(ServiceRefused) as refused:
        client.submit(task=f"{file}:make_task")
    assert refused.value.status is grpc.StatusCode.PERMISSION_DENIED
    assert str(refused.value).startswith("NOT_ALLOWED: code: bob may not upload code;")
    status, _ = guarded.refusal("bob", "UploadCode", iter(messages(file)))
    assert status is grpc.StatusCode.PERMISSION_DENIED
    line = audit(guarded.running.state)[-1]
    assert (line["user"], line["what"]) == ("bob", "UploadCode")
    assert line["result"].startswith("NOT_ALLOWED")
    guarded.call("alice", "UploadCode", iter(messages(file)))
    digest = pack_folder_of(file).listing.digest
    for user, status in (  # nor run what others have sent
        ("bob", grpc.StatusCode.PERMISSION_DENIED),
        ("anna", grpc.StatusCode.NOT_FOUND),
    ):
        spec = JobSpec(task="mytask.py:make_task", code=digest)
        request = pb.SubmitJobRequest(spec=spec, request_id=f"request-of-{user}")
        assert guarded.refusal(user, "SubmitJob", request)[0] is status
    find = pb.FindCodeRequest(code=digest)
    assert not guarded.call("anna", "FindCode", find).found
    assert guarded.call("alice", "FindCode", find).found


def test_users_see_all_jobs_and_change_their_own(guarded: Guarded) -> None:
    with guarded.client("alice") as alice, guarded.client("bob") as bob:
        job = alice.submit(task="digits")
        assert job.owner == "alice"
        assert bob.job(job.id).owner == "alice"
        assert job.id in {one.id for one in bob.jobs()}
        for change in (bob.pause, bob.resume, bob.cancel, bob.delete):
            with pytest.raises(ServiceRefused, match="NOT_ALLOWED: .* is a job of 'alice', not"):
                change(job.id)
        with pytest.raises(ServiceRefused, match="NOT_ALLOWED"):
            bob.scale(job.id, blocks=1)
        with pytest.raises(ServiceRefused, match="NO_JOB: there is no job yet"):
            bob.cancel("latest")  # his own newest
        mine = bob.submit(task="digits", request_id="a-request-of-bob")
        assert bob.job("latest").id == mine.id
        assert alice.job("latest").id == job.id
        with pytest.raises(ServiceRefused, match="REUSED"):
            alice.submit(task="digits", request_id="a-request-of-bob")
        alice.pause(job.id)
        for admin in ("admin", "boss"):
            with guarded.client(admin) as strong:
                strong.resume(job.id)
                strong.pause(job.id)
        with guarded.client("boss") as boss:
            for one in (job, mine):
                boss.cancel(one.id)
                boss.delete(one.id)
    lines = audit(guarded.running.state)
    about = [(x["user"], x["what"], x["result"][:11]) for x in lines if x["about"] == job.id]
    assert about[:2] == [("alice", "SubmitJob", "OK"), ("bob", "PauseJob", "NOT_ALLOWED")]
    assert about[-1] == ("boss", "DeleteJob", "OK")
    assert (guarded.running.state / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_a_user_never_gets_more_workers_than_allowed(guarded: Guarded) -> None:
    with guarded.client("alice") as alice:
        with pytest.raises(ServiceRefused, match="4 workers are (above|more than)"):
            alice.submit(task="digits", blocks=4, options={"layers": 4})
        job = alice.submit(task="digits", blocks=3, options={"layers": 4})
        with pytest.raises(ServiceRefused, match="TOO_MUCH"):
            alice.scale(job.id, blocks=4)
        alice.cancel(job.id)
        alice.delete(job.id)


def listing(*files: pb.CodeFile) -> list[pb.UploadCodeRequest]:
    return [pb.UploadCodeRequest(listing=pb.CodeListing(files=files))]


def empty(path: str, size: int = 0) -> pb.CodeFile:
    return pb.CodeFile(path=path, bytes=size, sha256=NONE)


CHUNK = pb.UploadCodeRequest(chunk=b"x")
TRICKS: dict[str, tuple[list[pb.UploadCodeRequest], str]] = {
    "absolute": (listing(empty("/etc/cron.d/x")), "a path must be relative"),
    "up": (listing(empty("../../jobs.sqlite")), "'.' or '..'"),
    "NUL": (listing(empty("a\0b")), "a control character"),
    "backslash": (listing(empty("..\\x")), "a backslash"),
    "two of one name": (listing(empty("a"), empty("a")), "not in ascending order"),
    "a file as a folder": (listing(empty("a"), empty("a/b")), "a: is a file and a folder"),
    "33 MiB": (listing(empty("a", 33 << 20)), "is larger than 32 MiB"),
    "2**64": (listing(empty("a", 2**64 - 1)), "is larger than 32 MiB"),
    "more than it says": ([*listing(empty("a")), CHUNK], "more than the listed 0 bytes"),
    "less than it says": (listing(empty("a", 1)), "0 of the listed 1 bytes"),
    "other bytes": ([*listing(empty("a", 1)), CHUNK], "a was changed on the way"),
    "no listing": ([CHUNK], "listing: must come first"),
    "nothing": ([], "listing: must come first"),
    "two listings": (listing(empty("a", 1)) * 2, "listing: must come once"),
    "no files": (listing(), "has no files"),
    "a large chunk": (
        [*listing(empty("a", 2 << 20)), pb.UploadCodeRequest(chunk=bytes(2 << 20))],
        "chunk: is larger than",
    ),
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_a_trick_is_one_clear_line_and_leaves_nothing(
    guarded: Guarded, trick: tuple[list[pb.UploadCodeRequest], str]
) -> None:
    sent, text = trick
    kept, root = guarded.kept(), {p.name for p in guarded.running.state.parent.iterdir()}
    status, said = guarded.refusal("anna", "UploadCode", iter(sent))
    assert status in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DATA_LOSS)
    assert text in said
    assert guarded.kept() == kept
    assert not list(guarded.uploads.glob(".unfinished*"))
    assert {p.name for p in guarded.running.state.parent.iterdir()} == root


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (JobSpec(task="other.py:make"), "task: other.py:make is no file and function of the"),
        (JobSpec(task="../../../x.py:make"), "is no file and function"),
        (JobSpec(task="/etc/x.py:make"), "is no file and function"),
        (JobSpec(task="digits"), "is no file and function"),
        (JobSpec(task="mytask.py:make_task", working_dir="/"), "working_dir: uploaded code runs"),
        (JobSpec(task="mytask.py:make_task", code="../../x"), "code: must be 64 digits"),
        (JobSpec(task="mytask.py:nothing"), "mytask.py has no function 'nothing'"),
    ],
)
def test_a_job_names_a_file_of_its_code_and_nothing_else(
    guarded: Guarded, tmp_path: Path, spec: JobSpec, text: str
) -> None:
    file = project(tmp_path / "mine")
    answer = guarded.call("anna", "UploadCode", iter(messages(file)))
    asked = JobSpec(task=spec.task, working_dir=spec.working_dir, code=spec.code or answer.code)
    request = pb.SubmitJobRequest(spec=asked, request_id="a-request-of-anna")
    assert text in guarded.refusal("anna", "SubmitJob", request)[1]
    assert not list(guarded.uploads.glob(".unfinished*"))


def test_an_interrupted_upload_leaves_nothing(guarded: Guarded, tmp_path: Path) -> None:
    file, kept = project(tmp_path / "interrupted", width=77), guarded.kept()
    first, chunk = messages(file)
    hold, got = threading.Event(), threading.Event()

    def slowly() -> Iterator[pb.UploadCodeRequest]:
        yield first
        yield pb.UploadCodeRequest(chunk=chunk.chunk[:700])
        got.set()
        hold.wait(30)

    credentials = grpc.ssl_channel_credentials(guarded.ca)
    bearer = (("authorization", f"Bearer {guarded.tokens['anna']}"),)
    with grpc.secure_channel(guarded.running.address, credentials) as channel:
        call = TrainingServiceStub(channel).UploadCode.future(slowly(), metadata=bearer)
        assert got.wait(30)
        call.cancel()
        hold.set()
    guarded.call("anna", "UploadCode", iter(messages(project(tmp_path / "next", width=78))))
    while list(guarded.uploads.glob(".unfinished*")):  # nothing tells when it has noticed
        threading.Event().wait(0.02)
    assert len(guarded.kept()) == len(kept) + 1


def test_the_same_content_from_several_clients_at_the_same_time(
    guarded: Guarded, tmp_path: Path
) -> None:
    file = project(tmp_path / "mine", width=9)

    def submit(user: str) -> str:
        with guarded.client(user) as client:
            return client.submit(task=f"{file}:make_task").spec.code

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(submit, ["alice", "alice", "anna", "anna"]))
    assert len(set(found)) == 1
    assert sorted(p.parent.name for p in guarded.uploads.glob(f"*/{found[0]}")) == ["alice", "anna"]


def test_modules_of_the_same_name_do_not_meet_in_the_checks(
    guarded: Guarded, tmp_path: Path
) -> None:
    """The second job would not be built with the first one's helper: it lacks a function."""
    first, second = project(tmp_path / "a"), project(tmp_path / "b")
    with (second.parent / "helper.py").open("a") as file:
        file.write("import torch\ntorch.set_default_dtype(torch.float64)\ndef only_here(): pass\n")
    with second.open("a") as file:
        file.write("\nhelper.only_here()\n")
    with first.open("a") as file:
        file.write("\nassert not hasattr(helper, 'only_here')\n")
        file.write("assert torch.get_default_dtype() == torch.float32\n")
    for user, file in (("alice", first), ("anna", second), ("alice", first)):
        with guarded.client(user) as client:
            client.submit(task=f"{file}:make_task")


@pytest.mark.parametrize(
    ("asked", "status", "text"),
    [
        ("numpy>=1\n# ours\ntorch", None, ""),
        ("no-such-package-of-ours", grpc.StatusCode.PERMISSION_DENIED, "without --allow-requir"),
        ("numpy<1", grpc.StatusCode.PERMISSION_DENIED, "numpy<1 would have to be installed"),
        (
            "--index-url http://127.0.0.1:9",
            grpc.StatusCode.INVALID_ARGUMENT,
            "is not a line such as",
        ),
        ("-r other.txt", grpc.StatusCode.INVALID_ARGUMENT, "is not a line such as einops>=0.8"),
        ("x @ file:///etc", grpc.StatusCode.INVALID_ARGUMENT, "line 1: an address is not accepted"),
    ],
)
def test_packages_need_the_operators_leave(
    guarded: Guarded, tmp_path: Path, asked: str, status: grpc.StatusCode | None, text: str
) -> None:
    file = project(tmp_path / "mine")
    (file.parent / "requirements.txt").write_text(asked)
    if status is None:
        assert guarded.call("anna", "UploadCode", iter(messages(file))).code in guarded.kept()
        return
    kept = guarded.kept()
    found, said = guarded.refusal("anna", "UploadCode", iter(messages(file)))
    assert found is status
    assert text in said
    assert guarded.kept() == kept


def test_a_user_may_not_fill_the_disk(guarded: Guarded, tmp_path: Path) -> None:
    file = project(tmp_path / "mine")
    for number in range(33):
        (file.parent / "rows.csv").write_text(f"{number}")
        if number < 32:
            guarded.call("boss", "UploadCode", iter(messages(file)))
    status, text = guarded.refusal("boss", "UploadCode", iter(messages(file)))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "32 uploads are in no job; they are removed after an hour" in text


def test_a_service_without_uploads_is_given_the_name(
    service: Running, client: Client, tasks: Path, tmp_path: Path
) -> None:
    """As before: the file is one that the service has. It says what would be needed."""
    job = client.submit(task=f"{tasks / 'mytask.py'}:make_wide", resources={"cpus": 99})
    assert (job.spec.code, job.owner) == ("", "admin")
    client.cancel(job.id)
    outside = project(tmp_path / "outside")
    with pytest.raises(ServiceRefused, match=r"was not sent \(--allow-uploads\)") as refused:
        client.submit(task=f"{outside}:make_task")
    assert refused.value.status is grpc.StatusCode.PERMISSION_DENIED
    bearer = (("authorization", f"Bearer {TOKEN}"),)
    with grpc.insecure_channel(service.address) as channel, pytest.raises(grpc.RpcError) as no:
        TrainingServiceStub(channel).UploadCode(iter(messages(outside)), metadata=bearer)
    assert no.value.code() is grpc.StatusCode.PERMISSION_DENIED
