"""The training data that are read in processes of their own, and by the blocks themselves."""
