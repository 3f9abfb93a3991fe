"""Sprint's criterion as a loss of PyTorch: `SprintLoss`, `sprint_loss`. Comes with the extra `torch`.

For the in-place way (`SprintInstancePool.claim`), `posteriors_of` and `error_signal_of` give tensors over
what lies in shared memory. See docs/torch.md.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401 - only whether it is there
except ImportError as error:
    raise ImportError(
        f"shmbridge.torch needs PyTorch ({error}): pip install 'shmbridge[torch]' [no-torch]"
    ) from error

from .in_place import error_signal_of, posteriors_of
from .loss import SprintLoss, sprint_loss

__all__ = ["SprintLoss", "error_signal_of", "posteriors_of", "sprint_loss"]
