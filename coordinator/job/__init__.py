"""Reads and checks what the user asked for: the job spec."""
