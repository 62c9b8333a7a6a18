"""Measures a job's layers, and chooses the shape in which its workers are fastest."""
