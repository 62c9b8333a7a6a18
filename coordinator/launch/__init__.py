"""Starts a run from Python or the command line, with a Ray of its own or on a cluster."""
