"""How long a step of backpropagation on errorcast's own blocks takes, under each schedule.

The blocks run dfa_core's own schedule functions, the ones that the workers run. The assumptions are
those of steps.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfa_core import Forward, Step, Update
from dfa_core.exact_schedule import exact_actions, first_waiting
from dfa_core.schedule import InputGradients, WeightGradients
from dfa_speedup.peers import OwnBackward
from dfa_speedup.simulation.costs import LayerCost
from dfa_speedup.simulation.events import TimedAction, run

_FULL = 2  # steps until the pipeline is full


@dataclass(frozen=True)
class OwnBackwardStep:
    """Steps of one replica: the cost of each block, and of the head.

    microbatches: of a step. hop: seconds of a microbatch's activations, or gradients, to the next
    worker. in_block: the head is in the last block's worker, and not in a process of its own.
    """

    backward: OwnBackward
    blocks: Sequence[LayerCost]
    head: LayerCost
    microbatches: int
    hop: float
    in_block: bool

    def seconds(self) -> float:
        """Return the seconds of a step, in a pipeline that is full."""
        steps, delay = _FULL + 2, self.backward.staleness
        at = run([*map(self._block, range(len(self.blocks))), *self._apart()])
        last, first = steps - 1 - delay, _FULL - 1 - delay
        ends = [at["S", k, last] - at["S", k, first] for k in range(len(self.blocks))]
        return max(ends) / (last - first)

    def _block(self, k: int) -> Iterator[TimedAction]:
        cost, blocks, m = self.blocks[k], len(self.blocks), self.microbatches
        backward, hosts = self.backward, self.in_block and k == blocks - 1
        waiting = first_waiting(backward.schedule, blocks, not self.in_block)
        for action in exact_actions(
            backward.schedule,
            k + 1,
            blocks,
            m,
            0,
            _FULL + 2,
            backward.staleness,
            waiting,
            not self.in_block,
        ):
            match action:
                case Forward(step, i):
                    needs = ((("F", k - 1, step, i), self.hop),) if k else ()
                    yield TimedAction(("F", k, step, i), cost.forward, needs)
                    if hosts:
                        yield TimedAction(("E", step, i), self.head.update)
                case Update(step, i) | InputGradients(step, i):
                    whole = isinstance(action, Update)
                    signal = ("B", k + 1, step, i) if k + 1 < blocks else ("E", step, i)
                    delay = 0.0 if hosts else self.hop
                    seconds = cost.backward if whole else cost.inputs
                    yield TimedAction(("B", k, step, i), seconds, ((signal, delay),))
                case WeightGradients(step, i):
                    yield TimedAction(("W", k, step, i), cost.weights)
                case Step(step):
                    own = self.head.optimizer if hosts else 0.0
                    yield TimedAction(("S", k, step), cost.optimizer + own)

    def _apart(self) -> list[Iterator[TimedAction]]:
        return [] if self.in_block else [self._of_head()]

    def _of_head(self) -> Iterator[TimedAction]:
        last = len(self.blocks) - 1
        for step in range(_FULL + 2):
            for i in range(self.microbatches):
                needs = ((("F", last, step, i), self.hop),)
                yield TimedAction(("E", step, i), self.head.update, needs)
            yield TimedAction(("head", step), self.head.optimizer)
