"""Signs of life of workers: what bounds a wait for their work."""
