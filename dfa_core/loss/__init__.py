"""The loss as a mean over samples, and what that mean weighs in the mean over more samples."""

from dfa_core.loss.mean import Loss, LossWeight, WeightedLoss, weighted
from dfa_core.loss.settling import settled

__all__ = ["Loss", "LossWeight", "WeightedLoss", "settled", "weighted"]
