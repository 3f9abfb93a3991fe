"""Losses of PyTorch: Sprint's criterion, and the sum over all paths of Sprint's automata.

Requires the extra `torch`. See docs/torch.md.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401 - fails early, with a remedy
except ImportError as error:
    raise ImportError(
        f"shmbridge.torch cannot import PyTorch ({error}); run pip install torch [no-torch]"
    ) from error

from .full_sum import FullSumLoss, full_sum_loss
from .loss import SprintLoss, sprint_loss
from .viterbi import Alignment, viterbi

__all__ = ["Alignment", "FullSumLoss", "SprintLoss", "full_sum_loss", "sprint_loss", "viterbi"]
