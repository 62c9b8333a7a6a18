"""Where a block gets what it learns from: the global error, or gradients of its outputs."""
