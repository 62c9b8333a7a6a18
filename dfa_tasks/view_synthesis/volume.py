"""Volume rendering (Mildenhall 2020, sections 4 and 5.2): from samples along rays to colours.

Names below: n rays, s samples of a ray; each has a colour and a density at a depth along the ray.
"""

import torch
from torch import Tensor


def stratified(rays: Tensor, samples: int, near: float, far: float, drawn: bool) -> Tensor:
    """Return depths, (n, s), one in each of s intervals of [near, far] (eq. 2).

    drawn: whether they are random within the intervals or evenly spaced.
    """
    edges = torch.linspace(near, far, samples, device=rays.device, dtype=rays.dtype)
    if not drawn:
        return edges.expand(len(rays), samples)
    middles = (edges[1:] + edges[:-1]) / 2
    lower, upper = torch.cat([edges[:1], middles]), torch.cat([middles, edges[-1:]])
    return lower + (upper - lower) * torch.rand(len(rays), samples, device=rays.device)


def weights_of(density: Tensor, depths: Tensor, lengths: Tensor, far: float) -> Tensor:
    """Return the weight of each sample in its ray's colour, (n, s) (eq. 3).

    density: (n, s), before the ReLU; depths: (n, s), ascending; lengths: (n,), of the rays'
    directions. The last sample extends to `far`.
    """
    ends = torch.full_like(depths[:, :1], far)
    steps = torch.diff(depths, dim=1, append=ends).clamp(min=0) * lengths[:, None]
    passed = torch.relu(density) * steps
    # exp(-sum) instead of a product of 1 - alpha: exact for an opaque sample
    through = torch.exp(-torch.cumsum(passed, dim=1))
    before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], dim=1)
    return before - through


def resampled(depths: Tensor, weights: Tensor, samples: int, drawn: bool) -> Tensor:
    """Return depths, (n, s + samples), ascending: the given ones, and more at large weights.

    depths, weights: (n, s). The new depths follow a density that is constant between the middles
    of neighbouring depths (section 5.2).
    drawn: whether they are random or evenly spaced quantiles of it.
    """
    middles = (depths[:, 1:] + depths[:, :-1]) / 2
    inner = weights[:, 1:-1] + 1e-5
    share = torch.cumsum(inner / inner.sum(dim=1, keepdim=True), dim=1)
    share = torch.cat([torch.zeros_like(share[:, :1]), share], dim=1).contiguous()
    if drawn:
        places = torch.rand(len(depths), samples, device=depths.device)
    else:
        places = torch.linspace(0, 1, samples, device=depths.device).expand(len(depths), samples)
    above = torch.searchsorted(share, places.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=share.shape[1] - 1)
    from_share, to_share = share.gather(1, below), share.gather(1, above)
    span = to_share - from_share
    fraction = (places - from_share) / torch.where(span < 1e-5, torch.ones_like(span), span)
    start, end = middles.gather(1, below), middles.gather(1, above)
    return torch.cat([depths, start + fraction * (end - start)], dim=1).sort(dim=1).values


def colours(raw: Tensor, depths: Tensor, lengths: Tensor, far: float) -> Tensor:
    """Return the rays' colours on a white background, (n, 3), in [0, 1].

    raw: (n, s, 4), the colour before the sigmoid and the density before the ReLU.
    """
    weights = weights_of(raw[..., 3], depths, lengths, far)
    seen = (weights.unsqueeze(-1) * torch.sigmoid(raw[..., :3])).sum(dim=1)
    return seen + (1 - weights.sum(dim=1, keepdim=True))
