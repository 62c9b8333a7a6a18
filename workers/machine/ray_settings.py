"""Settings of Ray for every node that errorcast starts; Ray reads them from the environment."""

START_S = 180.0  # Ray's own limits on the start of its processes are too short for a busy machine

RAY_SETTINGS = {
    "RAY_agent_register_timeout_ms": f"{1000 * START_S:.0f}",
    "RAY_worker_register_timeout_seconds": f"{START_S:.0f}",
    # Ray would start workers at nice 15: next to others that compute they get a fortieth of
    # a core each. A run that was asked for gets its share, as a plain Python script does
    "RAY_worker_niceness": "0",
}
