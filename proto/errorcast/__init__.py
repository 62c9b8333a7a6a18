"""Messages of errorcast, made from the .proto files."""
