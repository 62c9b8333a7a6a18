"""What is done with a finished run: evaluate, generate, render, embed."""
