"""The service: takes jobs over gRPC, runs them on a Ray cluster, and tells what happens to them.

A process of its own, without torch and without Ray: what needs those runs in child processes
(cluster_process.py, checker.py, predictor.py), so that none of them can take the service with it.
Read supervisor.py first: it is the life of a job.
"""
