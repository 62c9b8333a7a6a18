"""Every side does the same work: the losses of 3 steps are the single-process reference's."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch
from ray import cloudpickle
from support import networks
from support.networks import NETWORKS, SAMPLES, Noise, dense, rule
from torch import Tensor, nn

from coordinator.experiments.errorcast_side import ErrorcastSide
from coordinator.job.settings import ResourceSettings
from coordinator.planning.workload import open_prefetcher
from dfa_core import LearningRule, Model, OptimizerSpec, Reference, profile, split
from dfa_core.trained import TrainedModule
from dfa_speedup.bench_worker import BenchWorker, Trained
from dfa_speedup.bench_workers import BenchWorkers, PeerFailed
from dfa_speedup.peers import (
    COMPILED_PEERS,
    DATA_PARALLEL,
    DDP,
    EAGER_PIPELINES,
    ERRORCAST,
    FSDP2,
    ONE_PROCESS,
    ONE_PROCESS_DFA,
    OWN_BACKWARD,
    PEERS,
    PIPELINES,
    OwnBackward,
    bytes_per_step,
    configurations,
    refusal,
)
from dfa_speedup.workload import Configuration, Workload
from workers.groups.group import LOOPBACK
from workers.groups.transport import Rendezvous
from workers.payload import PickledPayload
from workers.placement import WorkerResources

LOSS = nn.functional.cross_entropy
STEPS, M = 3, 4
ALONE = Rendezvous(LOOPBACK, port=0, world=1)
cloudpickle.register_pickle_by_value(networks)


def case_of(model: Model, r: LearningRule) -> Workload:
    x, target = (split(part, M)[0] for part in Noise().batch(0))
    measured = profile(model, LOSS, r, x, target)
    prefetcher = partial(open_prefetcher, Noise(), SAMPLES)
    return Workload(model, measured.loss, r, prefetcher, SAMPLES, measured)


def reference(workload: Workload, method: str, microbatches: int) -> list[float]:
    r = rule("sgd", microbatches)
    trainer = Reference(workload.model, LOSS, replace(r, method=method))  # type: ignore[arg-type]
    return [trainer.train_step(step, *Noise().batch(step)) for step in range(STEPS)]


def losses_of(done: list[Trained]) -> list[float]:
    """Return the loss of each step: the mean over the workers that know one."""
    reported = [worker.losses for worker in done if worker.losses]
    return [sum(step) / len(reported) for step in zip(*reported, strict=True)]


def losses_of_new(workers: BenchWorkers, configuration: Configuration) -> list[float]:
    """Return the losses of a peer that is built anew."""
    workers.forget()
    return losses_of(workers.train(configuration, 0, STEPS))


def of_fewest_stages(schedule: str, microbatches: int = M, blocks: int = 2) -> Configuration:
    peer = PIPELINES.get(schedule)
    return Configuration(schedule, microbatches, peer.virtual_stages(4, blocks)[0] if peer else 1)


@pytest.fixture(scope="module")
def sides(a_ray: None) -> Iterator[tuple[Workload, BenchWorkers, ErrorcastSide]]:
    workload = case_of(NETWORKS["mlp"], rule("sgd", M))
    payload = PickledPayload.pack(workload)
    workers = BenchWorkers(payload, 2, WorkerResources(), timeout_s=60)
    resources = ResourceSettings(threads=1, head="coordinator")
    ours = ErrorcastSide(payload, resources, heads=0)
    yield workload, workers, ours
    ours.stop()
    workers.stop()


@pytest.mark.parametrize("schedule", [*PEERS, ONE_PROCESS_DFA])
def test_three_steps_have_the_references_losses(
    sides: tuple[Workload, BenchWorkers, ErrorcastSide], schedule: str
) -> None:
    workload, workers, _ = sides
    workers.forget()
    configuration = of_fewest_stages(schedule)
    assert refusal(workload, configuration, 2) is None
    done = workers.train(configuration, 0, STEPS)
    losses = losses_of(done)
    expected = reference(workload, "dfa" if schedule == ONE_PROCESS_DFA else "bp", M)
    assert losses == pytest.approx(expected, rel=2e-6)
    others = {"dfa", "bp", "shallow"} - {"dfa" if schedule == ONE_PROCESS_DFA else "bp"}
    for other in others:  # the bound distinguishes the methods
        assert losses != pytest.approx(reference(workload, other, M), rel=1e-5)
    if schedule in PIPELINES:
        assert all(worker.spans for worker in done)


class Forks(nn.Module):
    """Returns two halves, which both carry gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(64, 32)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(torch.tanh(self.map(x)).chunk(2, dim=1))  # type: ignore[return-value]


class Joins(nn.Module):
    """Puts what goes along beside what it makes: the gradients of both are parts of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(16, 16)

    def forward(self, h: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([along, torch.tanh(self.map(h))], dim=1)
        return both[:, 16:], both[:, :16]


class Ends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(32, 10)

    def forward(self, *parts: Tensor) -> Tensor:
        out: Tensor = self.map(torch.cat(parts, dim=1))
        return out


@pytest.fixture(scope="module")
def forking(a_ray: None) -> Iterator[tuple[Workload, BenchWorkers]]:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    workload = case_of(Model((Forks, Joins, Joins), Ends), rule("sgd", M))
    workers = BenchWorkers(PickledPayload.pack(workload), 2, WorkerResources(), timeout_s=60)
    yield workload, workers
    workers.stop()


@pytest.mark.parametrize("schedule", ["GPipe", "1F1B", "interleaved 1F1B"])
def test_pipelines_carry_gradients_that_are_parts_of_others(
    forking: tuple[Workload, BenchWorkers], schedule: str
) -> None:
    workload, workers = forking
    losses = losses_of_new(workers, of_fewest_stages(schedule))
    assert losses == pytest.approx(reference(workload, "bp", M), rel=2e-6)


def test_every_worker_of_a_peer_ends_with_the_references_weights(
    sides: tuple[Workload, BenchWorkers, ErrorcastSide],
) -> None:
    workload, workers, _ = sides
    trained = Reference(workload.model, LOSS, rule("sgd", M, method="bp"))
    for step in range(STEPS):
        trained.train_step(step, *Noise().batch(step))
    for schedule in (*EAGER_PIPELINES, *DATA_PARALLEL, ONE_PROCESS):
        workers.forget()
        configuration = of_fewest_stages(schedule)
        workers.train(configuration, 0, STEPS)
        states = workers.states(configuration)
        for module in trained.trained_modules():
            for name, tensor in module.state()[0].items():
                ours = states[module.name][0][name]
                torch.testing.assert_close(ours, tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("schedule", ["1F1B", "ZBV zero bubble", *DATA_PARALLEL, ONE_PROCESS])
def test_peers_compute_in_the_jobs_precision(
    halves: tuple[Workload, BenchWorkers], schedule: str
) -> None:
    workload, workers = halves
    losses = losses_of_new(workers, of_fewest_stages(schedule))
    trained = Reference(workload.model, LOSS, replace(workload.rule, method="bp"))
    expected = [trained.train_step(step, *Noise().batch(step)) for step in range(STEPS)]
    assert losses == pytest.approx(expected, rel=1e-4)  # replicas cut the batch elsewhere
    in_fp32 = reference(workload, "bp", M)
    apart = [abs(loss - other) for loss, other in zip(losses, in_fp32, strict=True)]
    assert sum(apart) > sum(abs(a - b) for a, b in zip(losses, expected, strict=True))


@pytest.fixture(scope="module")
def halves(a_ray: None) -> Iterator[tuple[Workload, BenchWorkers]]:
    of_job = replace(rule("sgd", M), precision="bf16", activations="bf16")
    workload = case_of(NETWORKS["mlp"], of_job)
    workers = BenchWorkers(PickledPayload.pack(workload), 2, WorkerResources(), timeout_s=60)
    yield workload, workers
    workers.stop()


@pytest.mark.endurance
@pytest.mark.parametrize("schedule", COMPILED_PEERS)
def test_compiled_peers_have_the_references_losses(
    sides: tuple[Workload, BenchWorkers, ErrorcastSide], schedule: str
) -> None:
    workload, workers, _ = sides
    workers.forget()
    configuration = of_fewest_stages(schedule)
    refused = refusal(workload, configuration, 2)
    if refused is not None:
        assert "torchtitan issue 3584" in refused
        assert schedule == "compiled ZBV zero bubble"
        return
    done = workers.train(configuration, 0, STEPS)
    losses = [step for worker in done for step in worker.losses]
    assert losses == pytest.approx(reference(workload, "bp", M), rel=2e-6)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_shards_are_trained_by_any_optimizer(a_ray: None, optimizer: str) -> None:
    """With a limit on the norm of the gradient, which all shards of a layer share."""
    spec = OptimizerSpec(optimizer, lr=0.01, clip_norm=0.05)
    workload = case_of(NETWORKS["mlp"], replace(rule("sgd", M), optimizer=spec))
    workers = BenchWorkers(PickledPayload.pack(workload), 2, WorkerResources(), timeout_s=60)
    try:
        done = workers.train(Configuration(FSDP2, M), 0, STEPS)
        losses = losses_of(done)
        trained = Reference(workload.model, LOSS, replace(workload.rule, method="bp"))
        expected = [trained.train_step(step, *Noise().batch(step)) for step in range(STEPS)]
        assert losses == pytest.approx(expected, rel=1e-4)
    finally:
        workers.stop()


def test_a_pipeline_may_have_a_stage_for_every_layer(a_ray: None) -> None:
    """Its most virtual stages: five layers and the head on two workers make three each."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    layers = (dense(64, 16), *[dense(16, 16)] * 4)
    workload = case_of(Model(layers, partial(nn.Linear, 16, 10)), rule("sgd", M))
    workers = BenchWorkers(PickledPayload.pack(workload), 2, WorkerResources(), timeout_s=60)
    loops = [name for name, peer in PIPELINES.items() if peer.order == "loop"]
    try:
        for name in loops:
            tried = configurations(name, workload, 2, [M])
            assert [c.virtual_stages for c in tried] == [2, 3]
            losses = losses_of_new(workers, tried[-1])
            assert losses == pytest.approx(reference(workload, "bp", M), rel=2e-6), name
            assert bytes_per_step(workload, tried[-1], 2) == 2 * 5 * 4 * 16 * SAMPLES
    finally:
        workers.stop()


@pytest.mark.parametrize(("name", "backward"), OWN_BACKWARD.items())
def test_errorcasts_own_backpropagation_has_the_bits_of_the_reference(
    sides: tuple[Workload, BenchWorkers, ErrorcastSide], name: str, backward: OwnBackward
) -> None:
    workload, workers, ours = sides
    trial, _ = ours.first_trial(workers, Configuration(name, M), STEPS)
    r = rule("sgd", M, method="bp", staleness=backward.staleness)
    trained = Reference(workload.model, LOSS, r)
    expected = [trained.train_step(step, *Noise().batch(step)) for step in range(STEPS)]
    assert trial.losses == expected


def test_errorcasts_side_has_the_bits_of_the_dfa_reference(
    sides: tuple[Workload, BenchWorkers, ErrorcastSide],
) -> None:
    workload, workers, ours = sides
    trial, _ = ours.first_trial(workers, Configuration(ERRORCAST, M), STEPS)
    assert trial.losses == reference(workload, "dfa", M)
    kinds = [[span.what for span in row] for row in trial.spans]
    assert [row.count("forward") for row in kinds] == [STEPS * M, STEPS * M, 0]
    assert [row.count("update") for row in kinds] == [STEPS * M, STEPS * M, 0]
    assert [row.count("head") for row in kinds] == [0, 0, STEPS * M]


def test_a_peer_with_all_threads_gives_them_back(a_ray: None) -> None:
    worker = BenchWorker(threads=1)
    worker.enter(PickledPayload.pack(case_of(NETWORKS["mlp"], rule("sgd", M))), ALONE, rank=0)
    worker._world = 3  # as if two more were there
    threads = []
    worker._build_peer = lambda _: Watching(threads)  # type: ignore[method-assign]
    worker.train_peer(Configuration(ONE_PROCESS, 1), 0, 1)
    assert (threads, torch.get_num_threads()) == ([3], 1)


class Watching:
    """Notes the threads that it is run with."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen
        self.modules: list[TrainedModule] = []

    def train(self, first: int, last: int) -> tuple[list[float], list[float]]:
        self.seen.append(torch.get_num_threads())
        return [0.0] * (last - first), []

    def close(self) -> None:
        pass


class Exploding(nn.Module):
    """Fails when it is run, as if memory had run out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:  # in a pipeline of backpropagation, not after a cut
            raise RuntimeError("out of memory")
        return x


def test_a_peer_that_fails_says_why_and_the_next_one_runs(a_ray: None) -> None:
    model = Model(
        (dense(64, 16), partial(nn.Sequential, Exploding(), nn.Linear(16, 16))),
        partial(nn.Linear, 16, 10),
    )
    workload = case_of(model, rule("sgd", M))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    payload = PickledPayload.pack(workload)
    workers = BenchWorkers(payload, 2, WorkerResources(), timeout_s=60)
    resources = ResourceSettings(threads=1, head="coordinator")
    ours = ErrorcastSide(payload, resources, heads=0)
    try:
        with pytest.raises(PeerFailed, match="out of memory"):
            workers.train(Configuration("1F1B", M), 0, 1)
        assert len(ours.trial(workers, Configuration(ERRORCAST, M), 2).seconds) == 1
    finally:
        ours.stop()
        workers.stop()


def test_steps_may_take_longer_together_than_the_longest_wait(a_ray: None) -> None:
    """An epoch of a race does."""
    within_s = 2.0
    workers = BenchWorkers(
        PickledPayload.pack(case_of(NETWORKS["mlp"], rule("sgd", M))),
        2,
        WorkerResources(),
        within_s,
    )
    try:
        configuration = Configuration("1F1B", M)
        first, steps, seconds = 0, 50, 0.0
        while seconds <= within_s:  # however fast the machine is just then
            seconds = sum(workers.train(configuration, first, first + steps)[0].seconds)
            first, steps = first + steps, 2 * steps
    finally:
        workers.stop()


@pytest.mark.parametrize(
    ("schedule", "blocks", "microbatches", "why"),
    [
        ("1F1B", 1, 2, "a pipeline needs 2 workers"),
        ("DualPipeV", 2, 2, "needs at least 4 microbatches"),
        ("ZBV zero bubble", 3, 4, "needs 6 stages, the model has 4 layers and a head"),
        ("GPipe", 2, 5, "5 microbatches do not divide the batch of 24"),
        (DDP, 2, 8, "2 replicas of 8 microbatches do not divide 24"),
    ],
)
def test_what_a_peer_cannot_run_is_said(
    schedule: str, blocks: int, microbatches: int, why: str
) -> None:
    workload = case_of(NETWORKS["mlp"], rule("sgd", M))
    found = refusal(workload, of_fewest_stages(schedule, microbatches, blocks), blocks)
    assert found is not None
    assert why in found
