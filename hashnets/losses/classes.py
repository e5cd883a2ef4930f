"""Point losses: the code, or a layer on it, should tell the class."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot


def class_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of softmax(``scores`` (B, C)) for ``labels`` (B,).

    For multi-labels (B, C), zeros and ones, each class is a yes or no of its own: the mean binary cross-entropy.
    """
    return cross_entropy(scores, labels) if labels.ndim == 1 else binary_cross_entropy_with_logits(scores, labels)


def one_hot_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over items of the summed binary cross-entropies: each score says yes or no to its own class."""
    targets = one_hot(labels, scores.shape[1]).to(scores.dtype) if labels.ndim == 1 else labels
    return binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(scores)
