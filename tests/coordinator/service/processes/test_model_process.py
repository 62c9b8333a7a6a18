"""Predictions are cut by their outputs, and inputs by what a message holds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from errorcast.v1 import service_pb2 as pb
from support.in_process import train_here

from coordinator.client.arrays import pieces
from coordinator.inspection.saved_run import open_run
from coordinator.service.api.requests import whole_inputs
from coordinator.service.errors import ServiceError
from coordinator.service.processes import model_client
from coordinator.service.processes.frames import Frame, Header
from coordinator.service.processes.model_client import ModelClient, Part
from coordinator.service.processes.model_process import ModelReader
from coordinator.service.settings import Limits

pytestmark = pytest.mark.unit

DIGITS: dict[str, Any] = {"method": "shallow", "blocks": 1, "options": {"width": 16}, "epochs": 2}
OUTPUT = 4 * 10  # bytes of a sample's output


class Here:
    """The model reader in this process."""

    def __init__(self) -> None:
        self.reader, self.asked = ModelReader(), list[Header]()

    async def ask(self, header: Header, body: bytes, _: float, patient: bool = False) -> Frame:
        self.asked.append(header)
        return self.reader.answer(header, body)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_here("digits", tmp_path_factory.mktemp("wide") / "run", **DIGITS).folder


@pytest.fixture
def here(tmp_path: Path) -> ModelClient:
    client = ModelClient(tmp_path)
    client._reader = Here()  # type: ignore[assignment]
    return client


def parts(client: ModelClient, run: Path, x: torch.Tensor, step: int | None = None) -> list[Part]:
    kind = pb.DATA_TYPE_FLOAT32 if x.is_floating_point() else pb.DATA_TYPE_INT64
    samples = pb.Tensor(type=kind, shape=x.shape, data=x.numpy().tobytes())

    async def collect() -> list[Part]:
        return [part async for part in client.predict(run, samples, step)]

    return asyncio.run(collect())


@pytest.mark.parametrize(("most", "rows"), [(1 << 20, [100]), (30 * OUTPUT, [30, 30, 30, 10]),
                                            (OUTPUT, [1] * 100), (1, [1] * 100)])  # fmt: skip
def test_answers_are_cut_by_their_outputs(
    here: ModelClient, run: Path, monkeypatch: pytest.MonkeyPatch, most: int, rows: list[int]
) -> None:
    monkeypatch.setattr(model_client, "_PART_BYTES", most)
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
    found = parts(here, run, x)
    assert [part.outputs.shape[0] for part in found] == rows
    assert {part.step for part in found} == {44}
    output = np.frombuffer(b"".join(part.outputs.data for part in found), np.float32)
    expected = open_run(run).outputs(x).numpy()
    np.testing.assert_allclose(output.reshape(100, 10), expected, rtol=1e-5, atol=1e-6)
    sent = [header["shape"][0] for header in here._reader.asked]  # type: ignore[attr-defined]
    assert sent == [100, *rows[1:]]  # what does not fit is sent once more only


def test_a_call_keeps_the_weights_it_began_with(here: ModelClient, run: Path) -> None:
    x = torch.zeros(2, 64)
    first, newest = parts(here, run, x, step=22), parts(here, run, x)
    assert (first[0].step, newest[0].step) == (22, 44)
    assert first[0].outputs.data != newest[0].outputs.data
    assert parts(here, run, x, step=22)[0].outputs == first[0].outputs
    with pytest.raises(Exception, match="checkpoint of step 7, which this call began with"):
        parts(here, run, x, step=7)


def test_what_belongs_together_is_not_cut(
    here: ModelClient, tmp_path: Path, all_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes of a graph."""
    monkeypatch.setattr(model_client, "_PART_BYTES", 1)
    settings = {"options": {"width": 8}, "method": "shallow", "epochs": 1, "microbatches": 1}
    run = train_here("cora-gcn", tmp_path / "run", data_dir=str(all_data), **settings)
    x = open_run(run.folder)._prefetcher.batch(0)[0]
    assert [part.outputs.shape[0] for part in parts(here, run.folder, x)] == [len(x)]


def joined(*requests: pb.PredictRequest, limit: int = 64 << 20) -> list[pb.PredictRequest]:
    async def stream() -> AsyncIterator[pb.PredictRequest]:
        for request in requests:
            yield request

    async def collect() -> list[pb.PredictRequest]:
        return [r async for r in whole_inputs(stream(), Limits(input_bytes=limit))]

    return asyncio.run(collect())


@pytest.mark.parametrize("width", [1, 64, (1 << 18), (1 << 18) + 1, 5 << 18])
def test_a_sample_of_any_size_arrives(width: int) -> None:
    samples = np.arange(width, dtype=np.float32)[None]
    sent = list(pieces("digits-0001", samples, pb.DATA_TYPE_FLOAT32))
    assert all(request.ByteSize() < (4 << 20) for request in sent)
    (request,) = joined(*(pb.PredictRequest.FromString(r.SerializeToString()) for r in sent))
    assert (request.job_id, list(request.input.shape)) == ("digits-0001", [1, width])
    assert request.input.data == samples.tobytes()


def test_what_is_continued_wrongly_is_refused() -> None:
    begun = pb.PredictRequest(input=pb.Tensor(shape=[1, 4], data=bytes(8)), continued=True)
    with pytest.raises(ServiceError, match="the last one is not complete"):
        joined(begun)
    with pytest.raises(ServiceError, match="another one begins before this one is complete"):
        joined(begun, begun)
    more = pb.PredictRequest(input=pb.Tensor(data=bytes(8)))
    with pytest.raises(ServiceError, match="input: is larger than 15 bytes"):
        joined(begun, more, limit=15)
    assert len(joined(begun, more, limit=16)) == 1
