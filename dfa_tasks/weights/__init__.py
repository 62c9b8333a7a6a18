"""Weights that training starts from, and weights that it leaves as they are."""
