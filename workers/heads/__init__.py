"""Head and loss in a worker: beside the last block, or alone; in training and in evaluation."""
