"""The schedule: all microbatches, in order, within bounds, and free of deadlock."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from dfa_core import Forward, Step, Update, block_actions, in_flight

sizes = st.tuples(st.integers(1, 12), st.integers(1, 16))


@given(sizes)
def test_each_microbatch_once_in_order_within_the_bound(size: tuple[int, int]) -> None:
    blocks, microbatches = size
    actions = list(block_actions(blocks, microbatches))
    assert [a.microbatch for a in actions if isinstance(a, Forward)] == list(range(microbatches))
    assert [a.microbatch for a in actions if isinstance(a, Update)] == list(range(microbatches))
    assert [i for i, a in enumerate(actions) if isinstance(a, Step)] == [len(actions) - 1]
    waiting = most = 0
    for action in actions:
        waiting += isinstance(action, Forward) - isinstance(action, Update)
        most = max(most, waiting)
        assert waiting >= 0
    assert most == in_flight(blocks, microbatches) == min(microbatches, blocks + 1)


@given(sizes, st.integers(1, 3), st.randoms(use_true_random=False))
def test_no_deadlock_with_any_order_of_execution(
    size: tuple[int, int], steps: int, random: object
) -> None:
    """Blocks take any action whose message is there; every message is sent and taken once."""
    blocks, microbatches = size
    inputs = {
        k: deque(range(steps * microbatches)) if k == 1 else deque[int]()
        for k in range(1, blocks + 1)
    }
    errors = {k: deque[int]() for k in range(1, blocks + 1)}
    todo = {
        k: deque(a for _ in range(steps) for a in block_actions(blocks, microbatches))
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
            case Forward(m):
                message = inputs[k].popleft()
                assert message % microbatches == m
                if k < blocks:
                    inputs[k + 1].append(message)
                else:
                    for queue in errors.values():
                        queue.append(message)
            case Update(m):
                assert errors[k].popleft() % microbatches == m
    assert not any(inputs.values())
    assert not any(errors.values())


@given(st.integers(1, 10), st.integers(0, 8))
def test_no_block_waits_once_the_pipeline_is_full(blocks: int, more: int) -> None:
    """With update time = forward time and M >= K + 1, a step costs M (f + u) (DESIGN, the step)."""
    microbatches, steps = blocks + 1 + more, 4
    done_forward: dict[tuple[int, int], int] = {}
    todo = {
        k: deque((s, a) for s in range(steps) for a in block_actions(blocks, microbatches))
        for k in range(1, blocks + 1)
    }
    busy_until, work = dict.fromkeys(todo, 0), dict.fromkeys(todo, 0)
    while any(todo.values()):
        for k, actions in todo.items():
            while actions:
                step, action = actions[0]
                if isinstance(action, Step):
                    actions.popleft()
                    continue
                message = step * microbatches + action.microbatch
                needs = (k - 1, message) if isinstance(action, Forward) else (blocks, message)
                at = 0 if needs[0] == 0 else done_forward.get(needs)
                if at is None:
                    break
                busy_until[k] = max(busy_until[k], at) + 1
                work[k] += 1
                if isinstance(action, Forward):
                    done_forward[k, message] = busy_until[k]
                actions.popleft()
    assert all(n == 2 * microbatches * steps for n in work.values())
    for k in todo:
        assert busy_until[k] <= 2 * microbatches * steps + (k - 1)
