"""What to say of a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(name: str, names: Iterable[str]) -> str:
    """A half sentence that names the closest valid name, or all of them.

    Example:
        >>> nearest("lidgmvea", ["gmvae", "lidgmvae"])
        'did you mean lidgmvae?'
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return "there are " + ", ".join(names) if names else "there are none"
