"""The pictures of a page, as part of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

from lidcli.report.figures.draw import Picture

__all__ = ["GLANCE", "Figures"]

COLOURS = 64
"""Of an embedded picture."""
EMBEDDED = 1_000_000
"""Bytes of pictures that a page takes; the largest are linked where there are more."""
GLANCE = "-glance"
"""How the name of the picture ends that says the answer."""


class Figures:
    """The pictures of a page, embedded up to a total size; the largest are linked beyond it.

    Args:
        folder: of the page.
        pictures: all of them.
    """

    def __init__(self, folder: Path, pictures: Sequence[Picture]) -> None:
        self.folder, self.pictures = folder, pictures
        whole = [picture for picture in pictures if not picture.part]
        small = sorted(
            ((p, _small(p.png)) for p in whole),
            key=lambda pair: (not pair[0].name.endswith(GLANCE), len(pair[1])),
        )
        sizes = accumulate(len(content) for _, content in small)
        self.embedded = {
            p.png: content
            for (p, content), size in zip(small, sizes, strict=True)
            if size <= EMBEDDED
        }

    def shown(self, picture: Picture) -> str:
        """A picture with its caption, or a link to its file."""
        caption = escape(picture.caption)
        content = self.embedded.get(picture.png)
        if content is None:
            file = escape(quote(picture.png.relative_to(self.folder).as_posix()))
            return f'<p>A large figure in a file of its own: <a href="{file}">{caption}</a></p>'
        data = base64.b64encode(content).decode("ascii")
        return (
            f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def _small(png: Path) -> bytes:
    """A drawing in few colours, or as it is where that is no smaller."""
    from PIL import Image

    content, out = png.read_bytes(), io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
            out, "png", optimize=True
        )
    return min(content, out.getvalue(), key=len)
