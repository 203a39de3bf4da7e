"""Arrays: makes large ones longer without copying them, for the caches of rows and of vectors. It knows neither."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

MOST_ROOM = 16_384
"""Rows that a large array grows by: making it longer is cheap, touching the new memory is not."""


def lengthen(array: NDArray[Any], rows: int) -> None:
    """Add so many rows of zeros at the end, in place: the system moves the pages of a large array without copying them.

    The caller holds the lock of whatever the array is in, and no view of it is left.
    """
    array.resize((len(array) + rows, *array.shape[1:]), refcheck=False)
