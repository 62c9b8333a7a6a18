"""The story of a run: segments of steps, evaluations, checkpoints, recovery from faults."""
