"""Embeds hidden features in two dimensions."""

from typing import Any

import torch
from torch import Tensor

SAMPLES = 3000  # t-SNE takes about a minute


def embed(features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the t-SNE (van der Maaten 2008) of features, (n, 2), and the points' classes, (n,).

    At most 3000 samples are embedded: of a larger number, every k-th. The same features give the
    same points.

    features: (n, f).
    classes: (n,); a negative class is unknown, and its sample is skipped.
    """
    from sklearn.manifold import TSNE  # noqa: PLC0415  # takes a second

    known = (classes >= 0).nonzero().squeeze(1)
    chosen = known[:: max(1, -(-len(known) // SAMPLES))]
    perplexity = max(2.0, min(30.0, (len(chosen) - 1) / 3))
    tsne: Any = TSNE
    method = tsne(init="pca", random_state=0, perplexity=perplexity)
    points = method.fit_transform(features[chosen])
    return torch.from_numpy(points), classes[chosen]
