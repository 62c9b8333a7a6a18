"""Citation networks: node classification and graph autoencoders."""
