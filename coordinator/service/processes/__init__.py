"""The child processes that hold Ray and torch, so that the service itself needs neither."""
