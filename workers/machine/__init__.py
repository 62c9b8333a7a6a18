"""What this machine gives to its processes: CPUs, memory, a folder for sockets."""
