"""Models of the transformers library as they are: cut into an embedding, blocks and a head."""

from dfa_tasks.hugging_face.model import cut, from_config

__all__ = ["cut", "from_config"]
