"""The end of a pool: what happens when it is closed, collected, copied or forked."""

from __future__ import annotations

import weakref
from typing import Any, NoReturn, TypeVar

from ..errors import UsageError
from ..memory import Memory
from .lifecycle import Lifecycle, outside_watcher
from .options import Options
from .statistics import PoolStatistics

__all__ = ["OwnedPool"]


class OwnedPool:
    """The end of a pool: what happens when it is closed, collected, copied or forked.

    Args:
        options: the pool's.
    """

    def __init__(self, options: Options) -> None:
        self._pool = pool = Lifecycle(options)  # its parts, which must not refer to this object
        # Runs when this object is collected, or at the interpreter's exit, whichever comes first.
        self._finalizer = weakref.finalize(self, pool.close)
        pool.start()

    def stats(self) -> PoolStatistics:
        """Return what has crossed the bridge so far, and the state of each child.

        Never blocks: if another thread is in a call, the figures are those of this moment. May be called
        after `close`, which also logs them.

        Raises:
            UsageError: this process is a fork of the one that owns the pool.
        """
        return self._pool.stats()

    @property
    def num_instances(self) -> int:
        """The number of children."""
        return self._pool.options.num_instances

    @property
    def memories(self) -> list[Memory]:
        """The shared memory of each child that is alive, to register it with a device."""
        with self._pool.lock:
            self._pool.check_open()
            return [child.channel.memory for child in self._pool.scheduler.children if child.error is None]

    def close(self) -> None:
        """End the children and free all resources. Arrays that are held stay valid. May be called again.

        A call that another thread is in raises ClosedError there. In a logging handler that Sprint's output
        reaches, this returns before the pool is closed.

        Raises:
            UsageError: this is a call within a call of the same thread; that one raises ClosedError, and the
                next `close` ends the children.
        """
        self._pool.interrupt()  # the other thread holds the lock while it waits for Sprint
        outside_watcher(self._close_locked)

    def _close_locked(self) -> None:
        self._pool.background.join()  # its thread may need the lock to end
        with self._pool.lock:
            self._pool.close()
            self._finalizer.detach()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self._pool.is_closed

    def __enter__(self: _Pool) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __copy__(self: _Pool) -> _Pool:
        return self

    def __deepcopy__(self: _Pool, _memo: dict[int, Any]) -> _Pool:
        return self

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a pool cannot be pickled: its children belong to this process; create a pool in each process, "
            "and leave it out of what is saved, as torch's state_dict does [not-picklable]"
        )

    def __repr__(self) -> str:
        options = self._pool.options
        state = "closed" if self.closed else f"{options.num_instances} children"
        return f"<{type(self).__name__} {options.sprint_exec_path!r}, {state}>"


_Pool = TypeVar("_Pool", bound=OwnedPool)
