"""The service: takes jobs over gRPC, runs them on a Ray cluster, and reports what happens to them.

A process of its own, without torch and without Ray. Child processes run what needs those
(processes/cluster_process.py, checker.py, model_process.py), so that none of them can end the
service. Read jobs/supervisor.py first: it is the life of a job.
"""
