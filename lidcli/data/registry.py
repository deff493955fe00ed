"""The data sets by name: what they are, where they come from, and how to load them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from lidcli.config.sections import Data, Image
from lidcli.data.dataset import Dataset
from lidcli.data.documents import TextDataset
from lidcli.data.drawn import classical
from lidcli.data.images import load_idx, load_npz
from lidcli.data.omniglot import ALPHABETS, CHARDATA, load_omniglot
from lidcli.data.points import load_csv
from lidcli.data.remote import DatasetInfo, RemoteFile
from lidcli.data.text import load_documents
from lidcli.data.text_files import TEXT_DATASETS
from lidcli.data.toys import digits, pinwheel
from lidcli.errors import ConfigError, DataError
from lidcli.names import nearest

__all__ = ["DATASETS", "DatasetInfo", "RemoteFile", "load"]


def _idx_files(
    folder: str, sources: tuple[str, ...], checksums: dict[str, tuple[str, int]]
) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{folder}/{name}", tuple(f"{url}/{name}" for url in sources), sha256, size)
        for name, (sha256, size) in checksums.items()
    )


_MNIST = _idx_files(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "http://yann.lecun.com/exdb/mnist",
    ),
    {
        "train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            9_912_422,
        ),
        "train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            28_881,
        ),
        "t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            1_648_877,
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            4_542,
        ),
    },
)

_FASHION_MNIST = _idx_files(
    "fashion_mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist"
        "/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",
    ),
    {
        "train-images-idx3-ubyte.gz": (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            26_421_880,
        ),
        "train-labels-idx1-ubyte.gz": (
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            29_515,
        ),
        "t10k-images-idx3-ubyte.gz": (
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            4_422_102,
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            5_148,
        ),
    },
)


def _drawings(name: str, sha256: str, size: int, md5: str) -> RemoteFile:
    """An archive of Lake's drawings: packed anew, or as published."""
    path = f"omniglot/{name}"
    urls = (f"https://github.com/brendenlake/omniglot/raw/master/python/{name}",)
    return RemoteFile(
        path, urls, sha256, size, published=RemoteFile(path, urls, None, None, md5=md5)
    )


_OMNIGLOT = (
    _drawings(
        "images_background.zip",
        "024f4aa75a1dcad363f0f2799af6dcb69bdcb8e0627076aeaeaca5dc3d161559",
        8_425_668,
        "68d2efa1b9178cc56df9314c21c6e718",
    ),
    _drawings(
        "images_evaluation.zip",
        "a699dc2dd9a759b830037e4ec1b5610a0616701b4f40ea1268d9056042f1c9b6",
        5_757_624,
        "6b91aef0f799c5bb55b94e3f2daec811",
    ),
    RemoteFile(
        CHARDATA,
        (
            "https://raw.githubusercontent.com/yburda/iwae"
            "/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT/chardata.mat",
        ),
        None,
        None,
        blob="016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
        optional=True,
    ),
)


def _omniglot(settings: Image) -> Dataset:
    """Drawings, or their resampled file, one of which has to be there."""
    if not os.path.exists(settings.root / CHARDATA):
        _check_there(settings, _OMNIGLOT[:2])
    return load_omniglot(settings)


def _check_there(settings: Image, files: tuple[RemoteFile, ...]) -> None:
    for file in files:
        path = settings.root / file.path
        try:
            there = path.exists()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        if not there:
            raise DataError(f"{path} is missing; `lid fetch {settings.name}` gets it.")


def _fetched(
    settings: Image, *, files: tuple[RemoteFile, ...], folder: str, classes: int
) -> Dataset:
    """Images in idx files, which have to be there."""
    _check_there(settings, files)
    return load_idx(settings, folder, classes)


DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            name="pinwheel",
            kind="points",
            title="Pinwheel, five warped Gaussian arms in the plane",
            citation="Johnson, Duvenaud, Wiltschko, Datta and Adams, Composing graphical models"
            " with neural networks for structured representations and fast inference, NIPS 2016",
            licence="generated",
            classes=5,
            load=pinwheel,
            notes=("divided by 7.3909: pooled population sd 1, entropy 0.849 nats",),
        ),
        DatasetInfo(
            name="digits",
            kind="image",
            title="Optical recognition of handwritten digits, 8×8",
            citation="Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI Machine"
            " Learning Repository, 1998",
            licence="CC BY 4.0",
            classes=10,
            load=digits,
            notes=("scikit-learn's bundled copy, 1,797 images",),
        ),
        DatasetInfo(
            name="mnist",
            kind="image",
            title="MNIST handwritten digits, 28×28",
            citation="LeCun, Cortes and Burges, MNIST handwritten digit database, 2010",
            licence="CC BY-SA 3.0",
            classes=10,
            load=partial(_fetched, files=_MNIST, folder="mnist", classes=10),
            files=_MNIST,
        ),
        DatasetInfo(
            name="fashion-mnist",
            kind="image",
            title="Fashion-MNIST, 28×28",
            citation="Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
            licence="MIT",
            classes=10,
            load=partial(_fetched, files=_FASHION_MNIST, folder="fashion_mnist", classes=10),
            files=_FASHION_MNIST,
        ),
        DatasetInfo(
            name="omniglot",
            kind="image",
            title="Omniglot, characters of 50 alphabets, 28×28",
            citation="Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through"
            " probabilistic program induction, Science 350, 2015; Burda, Grosse and Salakhutdinov,"
            " Importance weighted autoencoders, ICLR 2016",
            licence="MIT",
            classes=ALPHABETS,
            load=_omniglot,
            files=_OMNIGLOT,
            notes=("chardata.mat where it is there, else the drawings averaged to 28×28",),
        ),
    )
}
_PAPER = "Wang, Blei and Cunningham, Posterior collapse and latent variable non-identifiability,"
DATASETS |= {
    name: DatasetInfo(
        name=name,
        kind="points" if name.startswith("gmvae") else "classical",
        title=title,
        citation=f"{_PAPER} NeurIPS 2021, {section}",
        licence="generated",
        classes=2 if name in ("gmm-separated", "gmm-overlapping", "gmvae-two") else 0,
        load=classical,
    )
    for name, title, section in (
        ("ppca-1d", "500 points in 5 dimensions from a one-dimensional PPCA", "appendix A.1"),
        ("ppca-2d", "500 points in 5 dimensions from a two-dimensional PPCA", "appendix A.1"),
        ("gmm-separated", "0.15 N(-10, 1) + 0.85 N(10, 1)", "appendix A.2"),
        ("gmm-overlapping", "0.15 N(-0.5, 1) + 0.85 N(0.5, 1)", "appendix A.2"),
        ("gmm-single", "N(-1, 1)", "appendix A.2"),
        ("gmvae-two", "5,000 points of two well-separated clusters in the plane", "section 2.2"),
        ("gmvae-one", "5,000 points of one cluster in the plane", "section 2.2"),
    )
}

DATASETS |= TEXT_DATASETS

_USER_FILES: dict[str, tuple[str, Callable[[Any], Dataset | TextDataset]]] = {
    "points": (".csv", load_csv),
    "image": (".npz", load_npz),
    "text": (".txt", load_documents),
}


def load(settings: Data) -> Dataset | TextDataset:
    """Load the data a configuration names: a registry entry, or a user's file.

    Args:
        settings: section data of a run.

    Raises:
        ConfigError: an unknown name or kind, or more data asked for than there are.
        DataError: files that are missing (the message says what to type) or wrong.

    Example:
        >>> from lidcli.config.sections import Image
        >>> load(Image(name="digits")).classes
        10
    """
    path = getattr(settings, "path", None)
    if path is not None:
        suffix, loader = _USER_FILES[settings.kind]
        if path.suffix.lower() != suffix:
            raise ConfigError(f"data.kind: {settings.kind} takes a {suffix} file, not {path.name}.")
        return loader(settings)
    if settings.name not in DATASETS:
        raise ConfigError(
            f"Data {settings.name!r} has neither a path nor a known name;"
            f" {nearest(settings.name, DATASETS)}"
        )
    info = DATASETS[settings.name]
    if settings.kind != info.kind:
        raise ConfigError(f"data.kind of {info.name} is {info.kind}, not {settings.kind}.")
    found: Dataset | TextDataset = info.load(settings)
    return found
