"""Runs that measure: the comparison with pipelines, methods side by side, faults on purpose."""
