"""What computes a run: rank 0 of the pipeline of blocks, or the whole model in one process.

Read loop.py first: it shows what the coordinator does in a step.
"""
