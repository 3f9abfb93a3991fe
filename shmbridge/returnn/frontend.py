"""Sprint's criterion as a loss of RETURNN's frontend, with its torch backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BatchError
from .pool import pool_of

if TYPE_CHECKING:
    from ..torch.arguments import SkippedLoss

__all__ = ["torch_loss"]


def torch_loss(
    log_probs: Any,
    seq_tag: Any,
    *,
    spatial_dim: Any,
    sprint_opts: Mapping[str, Any],
    from_logits: bool = False,
    skipped: SkippedLoss = "zero",
    pin_memory: bool = True,
    error_signal_scale: float = 1.0,
) -> Any:
    """Return Sprint's loss of each sequence, for a `train_step` of RETURNN's torch backend.

    The gradient is Sprint's error signal, as in `shmbridge.torch.sprint_loss`. All calls with equal
    sprint_opts share a pool: RETURNN's global instance. install() is not required; its options apply.

    Thread-safety: that of shmbridge.SprintInstancePool.

    Args:
        log_probs: returnn.tensor.Tensor with the batch, spatial_dim and a feature dimension, in any order:
            log posteriors, the output of log_softmax; any float dtype and device.
        seq_tag: `extern_data["seq_tag"]`: Tensor of the batch, the full segment names.
        spatial_dim: the dimension of the frames, with their number for each sequence.
        sprint_opts: RETURNN's options of Sprint, or shmbridge's; see docs/returnn.md.
        from_logits, skipped, pin_memory, error_signal_scale: as in `shmbridge.torch.sprint_loss`.

    Returns:
        Tensor of the batch, float32, or float64 if log_probs is. Mark it as a loss with
        `mark_as_loss(name, custom_inv_norm_factor=spatial_dim.get_size_tensor())` to report it per frame.

    Raises:
        BatchError: the dimensions of log_probs and seq_tag are others, or a tensor is of another backend.
        OptionError: sprint_opts are wrong; or see `shmbridge.torch.sprint_loss`.
        ShmbridgeError: as in `shmbridge.torch.sprint_loss`.
    """
    import returnn.frontend as rf
    from returnn.sprint.error_signals import SprintInstancePool

    from ..torch import sprint_loss

    batch_dim = _batch_dim(log_probs, seq_tag, spatial_dim)
    raw = log_probs.copy_compatible_to_dims_raw([batch_dim, spatial_dim, log_probs.feature_dim])
    names = list(seq_tag.raw_tensor)
    # A static number of frames is a scalar.
    lengths = spatial_dim.get_size_tensor().copy_compatible_to_dims_raw([batch_dim]).expand(len(names))
    pool = pool_of(SprintInstancePool.get_global_instance(dict(sprint_opts)))
    loss = sprint_loss(
        pool,
        raw,
        lengths,
        names,
        reduction="none",
        batch_first=True,
        from_logits=from_logits,
        skipped=skipped,
        pin_memory=pin_memory,
        error_signal_scale=error_signal_scale,
    )
    return rf.convert_to_tensor(loss, dims=[batch_dim], name="sprint_loss")


def _batch_dim(log_probs: Any, seq_tag: Any, spatial_dim: Any) -> Any:
    """Return the dimension that is left; raise a BatchError if these are not tensors of one batch."""
    from returnn.tensor import Tensor

    for name, tensor in (("log_probs", log_probs), ("seq_tag", seq_tag)):
        if not isinstance(tensor, Tensor):
            raise BatchError(
                f"{name} is of type {type(tensor).__name__}; it must be a returnn.tensor.Tensor [loss-input]"
            )
    batch = [dim for dim in log_probs.dims if dim not in (spatial_dim, log_probs.feature_dim)]
    if len(log_probs.dims) != 3 or len(batch) != 1:
        raise BatchError(
            f"log_probs is {log_probs}; it must have the batch, spatial_dim {spatial_dim} and a feature "
            "dimension [loss-input]"
        )
    if tuple(seq_tag.dims) != tuple(batch):
        raise BatchError(f"seq_tag is {seq_tag}; it must have the dimension {batch[0]} alone [loss-input]")
    return batch[0]
