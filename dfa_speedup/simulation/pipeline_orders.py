"""In which order each worker of a pipeline acts, as torch's schedules have it."""

from collections.abc import Sequence
from functools import cache

from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

from dfa_speedup.peers import PIPELINES
from dfa_speedup.workload import Configuration

PipelineAction = tuple[str, int, int]  # (F | B | I | W, stage, microbatch)

# forward, backward, and the backward pass split in two: for the inputs and for the weights
_KINDS = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}


@cache
def pipeline_order(
    configuration: Configuration, workers: int
) -> Sequence[Sequence[PipelineAction]]:
    """Return each worker's actions for the microbatches of a step."""
    peer, m = PIPELINES[configuration.schedule], configuration.microbatches
    if peer.order == "one":
        ahead = {
            k: m if configuration.schedule == "GPipe" else min(m, workers - k)
            for k in range(workers)
        }
        return [_one_stage(k, m, ahead[k]) for k in range(workers)]
    orders = []
    for rank in get_schedule_ops(peer.schedule, workers, m, configuration.virtual_stages):
        single = [one for action in rank if action for one in action.sub_actions or (action,)]
        orders.append(
            [
                # the microbatch is None where an action concerns all of them
                (_KINDS[one.computation_type.name], one.stage_index, one.microbatch_index or 0)
                for one in single
                # the others reduce gradients among replicas
                if one.computation_type.name in _KINDS
            ]
        )
    return orders


def _one_stage(k: int, m: int, ahead: int) -> list[PipelineAction]:
    order = [("F", k, i) for i in range(ahead)]
    for i in range(m):
        order.append(("B", k, i))
        if i + ahead < m:
            order.append(("F", k, i + ahead))
    return order
