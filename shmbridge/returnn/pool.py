"""What stands in RETURNN's SprintInstancePool instead of its own methods.

`self` is an instance of RETURNN's class. For each there is, from its first call on, a pool of ours that does
the work.
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
from .tags import names_of, repeat, rounds

_pools: weakref.WeakKeyDictionary[Any, SprintInstancePool] = weakref.WeakKeyDictionary()
_defaults: dict[str, Any] = {}


def get_batch_loss_and_error_signal(
    self: Any, log_posteriors: Array, seq_lengths: Array, tags: Optional[Sequence[Any]] = None
) -> tuple[Array, Array]:
    """Loss and error signal of a batch of segments.

    Args:
        self: RETURNN's pool.
        log_posteriors: (time,batch,label), log space, any float dtype, any strides.
        seq_lengths: (batch,) frames of each segment, any integer dtype.
        tags: full segment names: a list or array of str or bytes, or an array (batch,length) of bytes.
            One may be there several times.

    Returns:
        loss (batch,) float32, infinite for segments that Sprint discarded; error signal
        (time,batch,label) float32, zero beyond each length and for discarded segments.

    Raises:
        ShmbridgeError: as in shmbridge.SprintInstancePool.
    """
    if tags is None:
        raise BatchError("tags is None; Sprint needs the full segment name of each sequence [segment-names]")
    names = names_of(tags)
    pool = _pool_of(self)
    parts = rounds(names)
    if len(parts) < 2:
        return pool.get_batch_loss_and_error_signal(log_posteriors, seq_lengths, names)
    posteriors, lengths = np.asarray(log_posteriors), np.asarray(seq_lengths)
    if posteriors.ndim != 3 or posteriors.shape[1] != len(names) or lengths.shape != (len(names),):
        raise BatchError(
            f"log_posteriors has the shape {posteriors.shape}, seq_lengths {lengths.shape}, and there are "
            f"{len(names)} tags; it has to be (time,batch,label) and (batch,) for a batch of tags"
            " [batch-shapes]"
        )
    loss = np.empty(len(names), np.float32)
    error_signal = np.empty(posteriors.shape, np.float32)
    for part in parts:
        loss[part], error_signal[:, part] = pool.get_batch_loss_and_error_signal(
            posteriors[:, part], lengths[part], [names[index] for index in part]
        )
    return loss, error_signal


def get_automata_for_batch(self: Any, tags: Sequence[Any]) -> tuple[Array, Array, Array]:
    """The allophone state automata of segments, put together into one.

    Args:
        self: RETURNN's pool.
        tags: as in get_batch_loss_and_error_signal.

    Returns:
        edges (4,E) uint32: from, to, emission, sequence; weights (E,) float32; start_end_states
        (2,batch) uint32.

    Raises:
        ShmbridgeError: as in shmbridge.SprintInstancePool.
    """
    names = names_of(tags)
    distinct = list(dict.fromkeys(names))
    automata = _pool_of(self).get_automata_for_batch(distinct)
    if len(distinct) == len(names):
        return automata
    return repeat(*automata, [distinct.index(name) for name in names])


def get_free_instance(self: Any) -> Any:
    """RETURNN hands out one of its own children here; there are none.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        f"get_free_instance() of {self!r} hands out RETURNN's own children, of which shmbridge has none. "
        "Call the pool for whole batches, or use shmbridge.SprintInstancePool and its claim()"
        " [returnn-instance]"
    )


def set_defaults(options: Mapping[str, Any]) -> None:
    """Options for the pools that start their children from now on, where sprint_opts does not have them."""
    _defaults.clear()
    _defaults.update(options)


def close_all() -> None:
    """End all children that work for RETURNN's pools."""
    for pool in list(_pools.values()):
        pool.close()
    _pools.clear()


def _pool_of(self: Any) -> SprintInstancePool:
    """The pool that does the work. It starts at the first call, as RETURNN's children do."""
    with self.lock:
        pool = _pools.get(self)
        if pool is None:
            options = translate({**_defaults, **self.sprint_opts}, self.max_num_instances)
            pool = _pools[self] = SprintInstancePool(**options)
        return pool
