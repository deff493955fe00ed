"""What to say of a name that nobody knows, and how to say many in short."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

__all__ = ["nearest", "short_keys"]


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


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """For each dotted key its last part, or all of it where another ends alike.

    Example:
        >>> short_keys(["decoder.layers", "evaluate.samples", "inference.samples"]).values()
        dict_values(['layers', 'evaluate.samples', 'inference.samples'])
    """
    last = {key: key.rpartition(".")[2] for key in keys}
    shared = Counter(last.values())
    return {key: key if shared[last[key]] > 1 else last[key] for key in last}
