"""Hidden features in two dimensions."""

from typing import Any

import torch
from torch import Tensor

SAMPLES = 3000  # a minute of t-SNE


def embed(features: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return t-SNE (van der Maaten 2008) of features, (n, 2), and the classes of those points.

    features: (n, f); classes: (n,), below 0 where that is unknown: such samples are left out. Of
    more than 3000 samples every so-manyeth is taken. The same features give the same points.
    """
    from sklearn.manifold import TSNE  # noqa: PLC0415  # takes a second

    known = (classes >= 0).nonzero().squeeze(1)
    chosen = known[:: max(1, -(-len(known) // SAMPLES))]
    few = max(2.0, min(30.0, (len(chosen) - 1) / 3))
    method: Any = TSNE
    points = method(init="pca", random_state=0, perplexity=few).fit_transform(features[chosen])
    return torch.from_numpy(points), classes[chosen]
