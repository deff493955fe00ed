"""What lid never writes into an HDF5 file, and therefore refuses to read from one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py

from lidcli.errors import StoreError

__all__ = ["check_contents"]

DEEPEST = 32


def check_contents(path: Path, file: h5py.File, most_items: int | None = None) -> None:
    """Refuse everything in an open file that lid itself never writes.

    Args:
        path: of the file, for the sentence.
        file: open for reading.
        most_items: data sets and groups that it may hold.

    Raises:
        StoreError: links, shared or named objects, foreign types or filters, data that are not
            all in this file, or too many items.
    """
    root = file["/"].id
    seen = {h5py.h5o.get_info(root).addr}
    room = os.stat(path).st_size
    for count, (name, item) in enumerate(_items(root, 0), 1):
        if most_items is not None and count > most_items:
            raise StoreError(f"{path} holds more than {most_items} items; it was not read.")
        address = h5py.h5o.get_info(item).addr if item is not None else 0
        if item is None or address in seen:
            what = "a link"
        else:
            what = "" if isinstance(item, h5py.h5g.GroupID) else _foreign(item)
        seen.add(address)
        if not what and isinstance(item, h5py.h5d.DatasetID):
            room -= _bytes(item)
            what = "more data than the file has room for" if room < 0 else ""
        if what:
            raise StoreError(
                f"{path} holds {what} ({name.decode(errors='replace')}), which lid neither"
                " writes nor follows; it was not opened."
            )


def _items(group: h5py.h5g.GroupID, depth: int) -> Iterator[tuple[bytes, object]]:
    """Name and object of everything below a group; None in place of a link."""
    for name in group:
        link = group.links.get_info(name)
        item = h5py.h5o.open(group, name) if link.type == h5py.h5l.TYPE_HARD else None
        yield name, item
        if isinstance(item, h5py.h5g.GroupID):
            if depth == DEEPEST:
                raise ValueError("groups within groups without end")
            yield from _items(item, depth + 1)


def _bytes(item: h5py.h5d.DatasetID) -> int:
    shape: tuple[int, ...] = item.shape
    return math.prod(shape) * int(item.get_type().get_size())


def _foreign(item: object) -> str:
    """What about an object is not lid's, or nothing."""
    if not isinstance(item, h5py.h5d.DatasetID):
        return "a named type"
    settings, kind = item.get_create_plist(), item.get_type()
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    if settings.get_layout() == h5py.h5d.VIRTUAL or settings.get_external_count():
        return "data kept in another file"
    if any(code != h5py.h5z.FILTER_FLETCHER32 for code in filters):
        return "a foreign filter"
    classes = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
    if kind.get_class() not in classes or kind.detect_class(h5py.h5t.VLEN):
        return "an object type"
    if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
        return "an object type"
    if _bytes(item) > item.get_storage_size():
        return "data that are not in the file"
    return ""
