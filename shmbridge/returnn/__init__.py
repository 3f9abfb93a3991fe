"""RETURNN's SprintInstancePool over shared memory: one line in a RETURNN config.

    import shmbridge.returnn; shmbridge.returnn.install()

After that, `returnn.sprint.error_signals.SprintInstancePool` exchanges its matrices through shmbridge, and so
do the losses "sprint" and "fast_bw" and the layer "fast_bw". See docs/returnn.md.
"""

from .patch import install, is_installed, uninstall

__all__ = ["install", "is_installed", "uninstall"]
