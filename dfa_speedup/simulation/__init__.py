"""Predicts a step of errorcast and of its peers from what layers cost."""
