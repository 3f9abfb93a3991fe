"""Features of a segment.

RASR runs a flow network over the audio. Here they come from a side file, ``feature-extraction.file``: an
.npz archive with one matrix (dimension, time) for each full segment name. Without one they are zeros, one
frame for each 10 ms of the segment. A file that is called otherwise is taken for a flow network, so that
RASR's option files work, and left aside.
"""

from __future__ import annotations

import functools
import math
import zipfile
from typing import Any

import numpy as np

from shmbridge.errors import FileFormatError

from .configuration import Configuration
from .console import warn
from .corpus import Segment
from .matrices import Matrix

__all__ = ["FRAME_SHIFT", "Features"]

FRAME_SHIFT = 0.01
"""Seconds between two frames, where the corpus tells the number of frames."""

_MAX_FRAMES = 10_000_000


class Features:
    """Where the features of segments come from."""

    def __init__(self, config: Configuration) -> None:
        """Read the options of the component ``feature-extraction``, not yet the file."""
        path = config.string("file")
        self._path = path if path.endswith(".npz") else ""
        if path and not self._path:
            warn(f"refsprint runs no flow networks: {path!r} is left aside [features]")

    @property
    def has_file(self) -> bool:
        """Whether the features are real."""
        return bool(self._path)

    @functools.cached_property
    def _archive(self) -> Any:
        try:
            archive = np.load(self._path, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FileFormatError(self._path, None, f"is not an .npz file: {error} [features]") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileFormatError(self._path, None, "is not an .npz file [features]")
        return archive

    def matrix(self, segment: Segment, dimension: int) -> Matrix:
        """The features of a segment: (dimension, time) float32 in Fortran order.

        Args:
            segment: the segment.
            dimension: the number of rows where there is no file; else the file decides.

        Errors:
            FileFormatError: the file has no such matrix, or the corpus does not say how long the
                segment is.
        """
        if not self.has_file:
            return np.zeros((dimension, self.frames(segment)), dtype=np.float32, order="F")
        try:
            matrix = self._archive[segment.full_name]
        except KeyError:
            problem = f"has no features of segment {segment.full_name!r} [features]"
            raise FileFormatError(self._path, None, problem) from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FileFormatError(self._path, None, f"{segment.full_name!r}: {error}") from error
        if matrix.ndim != 2 or matrix.dtype.kind != "f":
            problem = (
                f"the features of {segment.full_name!r} are not a float matrix (dimension, time) [features]"
            )
            raise FileFormatError(self._path, None, problem)
        return np.asfortranarray(matrix, dtype=np.float32)

    def frames(self, segment: Segment) -> int:
        """The number of frames by the times in the corpus. Errors as matrix()."""
        frames = (segment.end - segment.start) / FRAME_SHIFT
        if not math.isfinite(frames) or frames > _MAX_FRAMES:
            problem = f"segment {segment.full_name!r} needs an end for its number of frames [features]"
            raise FileFormatError(segment.path, segment.line, problem)
        return round(frames)
