"""Shows a run in the cell of a Jupyter notebook that started it."""
