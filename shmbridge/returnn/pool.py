"""The methods that replace those of RETURNN's SprintInstancePool.

`self` is an instance of RETURNN's class. Its first call creates the pool of shmbridge that does the work.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from ..errors import BatchError, UsageError
from ..parent import SprintInstancePool
from ..parent.returnn_options import translate
from ..ring import Array

_pools: weakref.WeakKeyDictionary[Any, SprintInstancePool] = weakref.WeakKeyDictionary()
_defaults: dict[str, Any] = {}


def get_batch_loss_and_error_signal(
    self: Any, log_posteriors: Array, seq_lengths: Array, tags: Optional[Sequence[Any]] = None
) -> tuple[Array, Array]:
    """Return loss and error signal of a batch of segments.

    Args:
        self: RETURNN's pool.
        log_posteriors: (time,batch,label), log space, any float dtype, any strides.
        seq_lengths: (batch,) frames of each segment, any integer dtype.
        tags: full segment names: a list or array of str or bytes, or an array (batch,length) of bytes.
            A segment may occur several times.

    Returns:
        loss (batch,) float32, infinite for skipped segments; error signal (time,batch,label) float32, zero
        beyond each length and for skipped segments.

    Raises:
        ShmbridgeError: as in shmbridge.SprintInstancePool.
    """
    names = _names(tags)
    loss, error_signal = pool_of(self).get_batch_loss_and_error_signal(log_posteriors, seq_lengths, names)
    return loss, error_signal


def get_automata_for_batch(self: Any, tags: Sequence[Any]) -> tuple[Array, Array, Array]:
    """Return the allophone state automata of segments, combined into one.

    Args:
        self: RETURNN's pool.
        tags: as in get_batch_loss_and_error_signal.

    Returns:
        edges (4,E) uint32: from, to, emission, sequence; weights (E,) float32; start_end_states
        (2,batch) uint32.

    Raises:
        ShmbridgeError: as in shmbridge.SprintInstancePool.
    """
    return pool_of(self).get_automata_for_batch(_names(tags))


def get_free_instance(self: Any) -> Any:
    """Raise UsageError: shmbridge has none of RETURNN's instances to return."""
    raise UsageError(
        f"get_free_instance() of {self!r} is not available with shmbridge; call the pool for whole batches, "
        "or use claim() of shmbridge.SprintInstancePool [returnn-instance]"
    )


def set_defaults(options: Mapping[str, Any]) -> None:
    """Set the options of pools that are created from now on; sprint_opts takes precedence."""
    _defaults.clear()
    _defaults.update(options)


def close_all() -> None:
    """End all children that work for RETURNN's pools."""
    for pool in list(_pools.values()):
        pool.close()
    _pools.clear()


def _names(tags: Any) -> Any:
    """Return the segment names, also those of an array (batch,length) of bytes, padded with zeros.

    Raises:
        BatchError: the array has another shape or dtype.
    """
    if not isinstance(tags, np.ndarray) or tags.ndim == 1:
        return tags
    if tags.ndim != 2 or tags.dtype.itemsize != 1:
        raise BatchError(
            f"tags is an array {tags.shape} of {tags.dtype}; it must be (batch,) names, "
            "or (batch,length) bytes [segment-names]"
        )
    return [row.tobytes().rstrip(b"\0") for row in tags]


def pool_of(self: Any) -> SprintInstancePool:
    """Return the pool that does the work. As RETURNN's children do, it starts at the first call."""
    with self.lock:
        pool = _pools.get(self)
        if pool is None:
            options = translate({**_defaults, **self.sprint_opts}, self.max_num_instances)
            pool = _pools[self] = SprintInstancePool(**options)
        return pool
