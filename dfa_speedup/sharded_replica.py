"""A replica of FSDP2: weights, gradients and optimizer state are sharded over the workers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import cast

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from dfa_core import Chain
from dfa_core.trained import ScalarState, TensorState, TrainedModule
from dfa_speedup.replica import Replica
from dfa_speedup.shared_modules import SharedModules, computed
from dfa_speedup.workload import Configuration, Workload

_NOT_FUSED = ("sgd", "adagrad")  # torch has no fused kernel of these for shards (2.13)


class ShardedReplica(Replica):
    """Trains on a share of each batch; every layer's weights are gathered where it computes."""

    def _build(
        self,
        workload: Workload,
        configuration: Configuration,  # noqa: ARG002
        shared: SharedModules,
    ) -> tuple[Sequence[TrainedModule], nn.Module]:
        # of its own: no other side can train shards
        whole = SharedModules(workload, shared.device).stage(0, len(workload.model.layers) + 1)
        mesh = init_device_mesh(shared.device.type, (dist.get_world_size(),))
        for one in whole:
            fully_shard(one.module, mesh=mesh)
        modules = [_Sharded(one) for one in whole]
        chain = Chain(*computed(modules, as_compiled=False))
        fully_shard(chain, mesh=mesh)  # which makes it an FSDPModule, too
        return modules, chain

    def _apart(self, more: bool) -> AbstractContextManager[None]:
        cast("FSDPModule", self._module).set_requires_gradient_sync(not more)
        return nullcontext()


class _Sharded(TrainedModule):
    """A sharded module and an optimizer of its shards."""

    def __init__(self, whole: TrainedModule) -> None:
        key = "head" if whole.name == "head" else str(int(whole.name.rpartition("-")[2]))
        rule, spec = whole.rule, whole.rule.optimizer
        if spec.name.lower() in _NOT_FUSED:
            options = {"foreach": True, **spec.options}
            rule = replace(rule, optimizer=replace(spec, options=options))
        super().__init__(whole.name, whole.module, rule, key, delayed=False)

    def state(self) -> tuple[TensorState, ScalarState]:
        """Return the whole state, gathered from all workers, which must call this together."""
        tensors, scalars = super().state()
        return {name: _gathered(tensor) for name, tensor in tensors.items()}, scalars


def _gathered(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
