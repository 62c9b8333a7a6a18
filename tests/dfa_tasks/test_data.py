"""Data: read from folders, downloaded from a real server, and cut into batches."""

import gzip
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from ray import cloudpickle
from torch.utils.data import ConcatDataset, TensorDataset

from dfa_core import JobError
from dfa_tasks import INSTALLED, DatasetSource, make_task
from dfa_tasks.download import cache_folder, fetch
from dfa_tasks.source import as_source, chunks
from dfa_tasks.vision.datasets import FASHION_MNIST, load_digits_splits
from dfa_tasks.vision.idx import read_idx

NAMES = ["a.gz", "b.gz"]


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    splits = load_digits_splits("", "flat")
    samples = ConcatDataset([splits.train, splits.test])
    ours = sorted((*x.tolist(), int(target)) for x, target in samples)
    bundle = load_digits()
    theirs = sorted((*(x / 8 - 1), y) for x, y in zip(bundle.data, bundle.target, strict=True))
    assert ours == theirs


class Server:
    """A loopback server of a folder; `failures` answers come as 503, `cut` ones break off."""

    def __init__(self, folder: Path) -> None:
        self.failures, self.cut, self.asked = 0, 0, 0
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                if outer.failures > 0:
                    outer.failures -= 1
                    self.send_error(503)
                elif outer.cut > 0:
                    outer.cut -= 1
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"half")
                else:
                    super().do_GET()

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.home = f"http://127.0.0.1:{self.http.server_address[1]}/"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "home").mkdir()
    for name in NAMES:
        (tmp_path / "home" / name).write_bytes(name.encode() * 100)
    monkeypatch.setenv("ERRORCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ERRORCAST_DATA", raising=False)
    server = Server(tmp_path / "home")
    thread = threading.Thread(target=server.http.serve_forever)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def test_a_download_comes_once_and_is_retried(server: Server) -> None:
    server.failures, server.cut = 1, 1
    folder = fetch("set", NAMES, [server.home], "")
    assert folder == cache_folder() / "set"
    assert [(folder / n).read_bytes() for n in NAMES] == [n.encode() * 100 for n in NAMES]
    assert server.asked == 4
    assert sorted(p.name for p in folder.iterdir()) == NAMES  # no half files left
    assert fetch("set", NAMES, [server.home], "") == folder
    assert server.asked == 4


def test_the_next_home_is_tried(server: Server) -> None:
    folder = fetch("set", NAMES, [f"{server.home}nowhere/", server.home], "")
    assert (folder / "b.gz").exists()


def test_without_network_the_message_says_what_to_put_where(server: Server, tmp_path: Path) -> None:
    with pytest.raises(
        JobError, match=r"set is not on this machine .* put a.gz, b.gz into .*cache/set"
    ):
        fetch("set", NAMES, [f"{server.home}nowhere/"], "")
    assert not list((tmp_path / "cache" / "set").iterdir())


def test_what_is_not_downloaded_is_said_too(server: Server) -> None:
    del server  # its cache folder is empty
    with pytest.raises(JobError, match=r"it is not downloaded; put a.gz, b.gz into .*cache/set"):
        fetch("set", NAMES, [], "")


def test_folders_of_the_user_come_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path / "flat", tmp_path / "deep" / "set"):
        folder.mkdir(parents=True)
        for name in NAMES:
            (folder / name).write_bytes(b"mine")
    assert fetch("set", NAMES, [server.home], str(tmp_path / "flat")) == tmp_path / "flat"
    monkeypatch.setenv("ERRORCAST_DATA", str(tmp_path / "deep"))
    assert fetch("set", NAMES, [server.home], "") == tmp_path / "deep" / "set"
    assert server.asked == 0
    with pytest.raises(JobError, match="has no set; put a.gz, b.gz into"):
        fetch("set", NAMES, [server.home], str(tmp_path / "home2"))


def idx(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_idx_files_are_checked(tmp_path: Path) -> None:
    good = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))
    assert read_idx(idx(tmp_path / "good", good)).tolist() == [[0, 1, 2], [3, 4, 5]]
    (tmp_path / "plain").write_bytes(good)
    assert read_idx(tmp_path / "plain").shape == (2, 3)
    for content, message in (
        (good[:-1], "it is truncated"),
        (b"\0\0\x0d\x01" + good, "is not an IDX file"),
        (b"", "is not an IDX file"),
    ):
        with pytest.raises(JobError, match=message):
            read_idx(idx(tmp_path / "bad", content))
    with pytest.raises(JobError, match="wrong checksum"):
        read_idx(tmp_path / "good", "0" * 64)
    (tmp_path / "cut").write_bytes((tmp_path / "good").read_bytes()[:-4])
    with pytest.raises(JobError, match="cannot be read"):
        read_idx(tmp_path / "cut")


def test_fashion_mnist_is_what_it_should_be(real_data: Path) -> None:
    splits = FASHION_MNIST.load(str(real_data), "image")
    x, target = splits.train.tensors
    assert x.shape == (60000, 1, 28, 28)
    assert torch.bincount(target).tolist() == [6000] * 10
    assert abs(float(x.mean())) < 1e-3
    assert float(x.std()) == pytest.approx(1, abs=1e-3)
    assert len(splits.test) == 10000


def test_batches_are_a_pure_function_of_the_step() -> None:
    data = TensorDataset(torch.arange(100.0).unsqueeze(1), torch.arange(100))
    one, other = DatasetSource(data, 16, seed=3), DatasetSource(data, 16, seed=3)
    assert one.steps_per_epoch == 6
    forwards = [one.batch(step) for step in range(12)]
    backwards = [other.batch(step) for step in reversed(range(12))][::-1]
    for (x, target), (x_again, target_again) in zip(forwards, backwards, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(target, target_again)
    first = torch.cat([target for _, target in forwards[:6]])
    assert len(set(first.tolist())) == 96
    assert not torch.equal(first, torch.cat([target for _, target in forwards[6:]]))


def test_parts_cover_everything_in_order() -> None:
    data = TensorDataset(torch.arange(10), torch.arange(10))
    assert [len(x) for x, _ in chunks(data, 4)] == [4, 4, 2]
    assert torch.cat([x for x, _ in chunks(data, 4)]).tolist() == list(range(10))


def test_what_is_no_data_is_named() -> None:
    with pytest.raises(JobError, match="the training data is a list_iterator"):
        as_source(iter([1]), 1, 0)  # type: ignore[arg-type]
    with pytest.raises(JobError, match=r"must be a pair \(input, target\)"):
        as_source(list(range(8)), 2, 0).batch(0)  # type: ignore[arg-type]


# docs/results/graphs.md says why there is no pubmed; causal-lm needs a model of the user's
@pytest.mark.parametrize(
    "name", [name for name in INSTALLED if not name.startswith(("pubmed", "causal-lm"))]
)
def test_every_installed_task_builds(name: str, all_data: Path) -> None:
    task = make_task(name, {}, str(all_data))
    assert task.name == name
    assert task.model.build_head(0) is not None  # type: ignore[union-attr]
    there = cloudpickle.loads(cloudpickle.dumps(task))  # as Ray's processes get it
    assert len(there.model.layers) == len(task.model.layers)  # type: ignore[union-attr]
