"""Sprint's criterion as a PyTorch loss: `SprintLoss` and `sprint_loss`.

Requires the extra `torch`. See docs/torch.md.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401 - fails early, with a remedy
except ImportError as error:
    raise ImportError(
        f"shmbridge.torch cannot import PyTorch ({error}); run pip install torch [no-torch]"
    ) from error

from .loss import SprintLoss, sprint_loss

__all__ = ["SprintLoss", "sprint_loss"]
