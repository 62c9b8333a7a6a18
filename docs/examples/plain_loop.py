"""dfa_core alone, in a plain PyTorch loop: python docs/examples/plain_loop.py."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from dfa_core import Block, Head, LearningRule, OptimizerSpec, as_model, build_layers

x, target = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
x, target = x[order].float() / 8 - 1, target[order]
net = nn.Sequential(
    nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 10)
)

model, rule = as_model(net), LearningRule(optimizer=OptimizerSpec("adam", lr=1e-3))
block = Block(build_layers(model, 0, len(model.layers), rule))
head = Head(model, nn.functional.cross_entropy, rule)
for step in range(300):
    rows = torch.randint(0, 1437, (64,), generator=torch.Generator().manual_seed(step))
    h = block.forward(x[rows], step, microbatch=0)  # h has no graph: nothing flows back
    loss, error = head.error(h, target[rows], step, microbatch=0)  # the global error
    block.update(error, step, microbatch=0)  # each layer's local gradient, from the error alone
    block.step(step)
    head.apply_gradients(step)

correct = head.evaluate(block.evaluate(x[1437:])).argmax(1) == target[1437:]
print(f"test accuracy {correct.float().mean():.3f}")
