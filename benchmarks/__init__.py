"""Measurements that back the claims of README and docs/performance.md."""
