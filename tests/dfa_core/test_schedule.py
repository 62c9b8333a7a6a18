"""The schedule: all microbatches, in order, within bounds, and free of deadlock."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from dfa_core import Forward, Step, Update, block_actions, in_flight

sizes = st.tuples(st.integers(1, 12), st.integers(1, 16))
stale = st.integers(0, 4)


@given(sizes, st.integers(1, 4), st.integers(0, 5), stale)
def test_each_microbatch_once_in_order_within_the_bound(
    size: tuple[int, int], steps: int, first: int, staleness: int
) -> None:
    blocks, microbatches = size
    last = first + steps
    actions = list(block_actions(blocks, microbatches, first, last, staleness))
    every = [(step, m) for step in range(first, last) for m in range(microbatches)]
    assert [(a.step, a.microbatch) for a in actions if isinstance(a, Forward)] == every
    assert [(a.step, a.microbatch) for a in actions if isinstance(a, Update)] == every
    taken = [a.step for a in actions if isinstance(a, Step)]
    assert taken == list(range(max(0, first - staleness), max(0, last - staleness)))
    waiting = most = 0
    for action in actions:
        waiting += isinstance(action, Forward) - isinstance(action, Update)
        most = max(most, waiting)
        assert waiting >= 0
    ahead = in_flight(blocks, microbatches, staleness)
    assert ahead == min(microbatches * (staleness + 1), blocks + 1)
    assert most == min(ahead, len(every))


@given(sizes, st.integers(1, 4), stale)
def test_the_optimizer_lags_by_the_staleness_and_no_more(
    size: tuple[int, int], steps: int, staleness: int
) -> None:
    """Step t comes behind the updates of t and the forwards of t + s, before forwards of t+s+1."""
    actions = list(block_actions(*size, 0, steps, staleness))
    at = {action: index for index, action in enumerate(actions)}
    last_m = size[1] - 1
    for step in range(steps - staleness):
        assert at[Update(step, last_m)] < at[Step(step)]
        assert at[Forward(step + staleness, last_m)] < at[Step(step)]
        if step + staleness + 1 < steps:
            assert at[Step(step)] < at[Forward(step + staleness + 1, 0)]


@given(sizes, st.integers(1, 3), stale, st.randoms(use_true_random=False))
def test_no_deadlock_with_any_order_of_execution(
    size: tuple[int, int], steps: int, staleness: int, random: object
) -> None:
    """Blocks take any action whose message is there; every message is sent and taken once."""
    blocks, microbatches = size
    every = [(step, m) for step in range(steps) for m in range(microbatches)]
    inputs = {k: deque(every if k == 1 else []) for k in range(1, blocks + 1)}
    errors = {k: deque[tuple[int, int]]() for k in range(1, blocks + 1)}
    todo = {
        k: deque(block_actions(blocks, microbatches, 0, steps, staleness))
        for k in range(1, blocks + 1)
    }

    def ready(k: int) -> bool:
        match todo[k][0] if todo[k] else None:
            case None:
                return False
            case Forward():
                return bool(inputs[k])
            case Update():
                return bool(errors[k])
        return True

    while any(todo.values()):
        able = [k for k in todo if ready(k)]
        assert able, "deadlock"
        k = random.choice(able)  # type: ignore[attr-defined]
        match todo[k].popleft():
            case Forward(step, m):
                message = inputs[k].popleft()
                assert message == (step, m)
                if k < blocks:
                    inputs[k + 1].append(message)
                else:
                    for queue in errors.values():
                        queue.append(message)
            case Update(step, m):
                assert errors[k].popleft() == (step, m)
    assert not any(inputs.values())
    assert not any(errors.values())


@given(sizes, st.integers(1, 3), stale, st.integers(1, 40))
def test_more_may_wait_and_the_weights_of_each_forward_are_the_same(
    size: tuple[int, int], steps: int, staleness: int, waiting: int
) -> None:
    def steps_before(ahead: int | None) -> dict[tuple[int, int], int]:
        taken, found = 0, {}
        for action in block_actions(*size, 0, steps, staleness, ahead):
            taken += isinstance(action, Step)
            if isinstance(action, Forward):
                found[action.step, action.microbatch] = taken
        return found

    assert steps_before(min(waiting, size[1] * (staleness + 1))) == steps_before(None)


@given(st.integers(1, 10), st.integers(0, 8), stale)
def test_no_block_waits_once_the_pipeline_is_full(blocks: int, more: int, staleness: int) -> None:
    """With u = f and M (s + 1) >= K + 1, a step costs M (f + u) (DESIGN, the step)."""
    microbatches, steps = -(-(blocks + 1) // (staleness + 1)) + more, staleness + 4
    done_forward: dict[tuple[int, int, int], int] = {}
    todo = {
        k: deque(block_actions(blocks, microbatches, 0, steps, staleness))
        for k in range(1, blocks + 1)
    }
    busy_until, work = dict.fromkeys(todo, 0), dict.fromkeys(todo, 0)
    while any(todo.values()):
        for k, actions in todo.items():
            while actions:
                action = actions[0]
                if isinstance(action, Step):
                    actions.popleft()
                    continue
                needed = k - 1 if isinstance(action, Forward) else blocks
                at = (
                    0 if needed == 0 else done_forward.get((needed, action.step, action.microbatch))
                )
                if at is None:
                    break
                busy_until[k] = max(busy_until[k], at) + 1
                work[k] += 1
                if isinstance(action, Forward):
                    done_forward[k, action.step, action.microbatch] = busy_until[k]
                actions.popleft()
    assert all(n == 2 * microbatches * steps for n in work.values())
    for k in todo:
        assert busy_until[k] <= 2 * microbatches * steps + (k - 1)
