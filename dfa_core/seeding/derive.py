"""Seeds that depend on names alone: every partition draws the same numbers."""

import hashlib


def derive(seed: int, *labels: str | int) -> int:
    """Return a 63-bit seed from the job's seed and labels such as ("layer", 3)."""
    text = "/".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
