"""Digits, MNIST and Fashion-MNIST: multilayer perceptrons, residual and convolutional networks."""
