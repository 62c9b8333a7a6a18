"""What happens to a module that a factory has made: checks, and a copy of our own."""
