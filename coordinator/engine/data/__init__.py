"""The training data on their way to the blocks: read ahead, cut into microbatches."""
