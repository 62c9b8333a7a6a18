"""Measures layers, cuts a model into blocks of equal cost, and estimates their memory."""
