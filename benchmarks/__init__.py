"""Measurements that back the claims of README and of the pages of docs/benchmarks."""
