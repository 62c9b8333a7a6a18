"""Predicts a step from what layers cost: errorcast and the pipeline schedules."""
