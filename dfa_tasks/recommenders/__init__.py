"""Click-through rate prediction on MovieLens and Criteo."""
