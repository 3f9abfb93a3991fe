"""RETURNN's SprintInstancePool over shared memory: one line in a RETURNN config.

    import shmbridge.returnn; shmbridge.returnn.install()

After that, `returnn.sprint.error_signals.SprintInstancePool` exchanges its matrices through shmbridge, and so
do the losses "sprint" and "fast_bw" and the layer "fast_bw". With RETURNN's torch backend, `torch_loss` is
the criterion in a `train_step`. See docs/returnn.md.
"""

from .frontend import torch_loss
from .patch import install, is_installed, uninstall

__all__ = ["install", "is_installed", "torch_loss", "uninstall"]
