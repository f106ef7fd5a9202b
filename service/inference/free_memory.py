"""Free memory, given back to the system after a bundle was loaded.

Loading needs several times what stays. glibc keeps what was freed between blocks that are still in use; a bundle of
1,000,000 items left 50 MiB (ADR 0308).
"""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other C libraries have none


def give_back() -> None:
    """Return freed memory to the system; takes some ms."""
    if _TRIM is not None:
        _TRIM(0)
