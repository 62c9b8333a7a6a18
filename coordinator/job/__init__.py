"""What was asked for: the job spec, read and checked."""
