"""The board of time to quality: every contender trains until it reaches a test score."""
