"""How the ranks of a group exchange tensors: over gloo, or over NCCL between GPUs."""
