"""Models of the transformers library as they are: cut into an embedding, blocks and a head."""
