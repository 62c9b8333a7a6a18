"""The page, its JSON, and Prometheus metrics, over HTTP."""
