"""Measures what layers cost and cuts a model into blocks of equal cost."""
