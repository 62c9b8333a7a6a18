"""What a run leaves on disk: settings, metrics, checkpoints, the model, a picture."""
