"""The child processes that run Ray and torch, so that the service itself needs neither."""
