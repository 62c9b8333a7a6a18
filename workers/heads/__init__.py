"""Head and loss in a worker: with the last block, or without a block; training and evaluation."""
