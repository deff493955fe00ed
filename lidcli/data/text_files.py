"""The text of the registry: where it comes from, and how a download is known to be right."""

from __future__ import annotations

from lidcli.data.remote import Archive, DatasetInfo, RemoteFile
from lidcli.data.text import load_documents

__all__ = ["TEXT_DATASETS"]

_DELLA = (
    "https://raw.githubusercontent.com/OpenVLG/DELLA/55fdf6c018358294bbfb771ce574a1b6c23e2507/data"
)
_VMF = (
    "https://raw.githubusercontent.com/jiacheng-xu/vmf_vae_nlp"
    "/9f486db7d07aeebbcdb7d8e4002cc33ac88f75de/data/yelp"
)
_DG_VAES = (
    "https://raw.githubusercontent.com/zhangjf-nlp/DG-VAEs"
    "/6ad9e59f4af66fb8de64b7b0d03ba0c9ad3175f0/datasets/short_yelp_data"
)
_IMPLICIT = (
    "https://raw.githubusercontent.com/fangleai/Implicit-LVM"
    "/ac2d587eb93cb61478b4d25b4f4b4c1f4d0c690d/lang_model_yelp/data"
)
_DEEP_LATENT = (
    "https://raw.githubusercontent.com/harvardnlp/DeepLatentNLP"
    "/b89ff98088b2790f08b56515b6bbf5ce25451f63/data/yahoo"
)
_YAHOO_100K = "https://bj.bcebos.com/paddlenlp/datasets/yahoo-answer-100k.tar.gz"
_YAHOO_100K_MD5 = "68b88fd3f2cc9918a78047d99bcc6532"


def _yahoo(name: str, sha256: str | None, size: int | None, *more: str, md5: str) -> RemoteFile:
    return RemoteFile(
        f"yahoo/{name}",
        (f"{_DELLA}/yahoo/{name}", *more),
        sha256,
        size,
        md5=md5,
        archives=(Archive(_YAHOO_100K, _YAHOO_100K_MD5, name),),
        optional=sha256 is None,
    )


def _yelp15(name: str, blob: str) -> RemoteFile:
    return RemoteFile(
        f"yelp/yelp15/{name}",
        (f"{_DELLA}/yelp/{name}", f"{_IMPLICIT}/{name}"),
        None,
        None,
        blob=blob,
        optional=True,
    )


_YAHOO = (
    _yahoo(
        "yahoo.valid.txt",
        "3247ac3ffcc4d4bfd6216f2aaa617f6706cdc4081874da39245fe156825898d1",
        3_683_468,
        md5="2680dd89b4fe882359846b5accfb7647",
    ),
    _yahoo(
        "yahoo.test.txt",
        "ad843c4363adbdd07d8055d9bf121e5f23c285760df43a0031b89d8538293075",
        3_679_881,
        md5="3e6dcb643282e3543303980f1e21bb9d",
    ),
    _yahoo(
        "vocab.txt",
        "52c2045275a7114d748f694d984328bed5c7cdd5b82f784ee148e7c5d0be9911",
        154_007,
        md5="2c17c7120e6240d34d19490404b5133d",
    ),
    _yahoo(
        "yahoo.train.txt",
        None,
        None,
        f"{_DEEP_LATENT}/train.txt",
        md5="3fb31bad56bae7c65fa084f702398c3b",
    ),
)
_YELP = (
    RemoteFile(
        "yelp/yelp13/valid.txt",
        (f"{_VMF}/valid.txt",),
        "fa5f81ae1a7dcc8e784bec6aa1f5b91b7bf013a1883f4e672edbf5dc5405c090",
        1_784_455,
    ),
    RemoteFile(
        "yelp/yelp13/test.txt",
        (f"{_VMF}/test.txt",),
        "87c05e01fe534233e36ee89d81371085ca7b826ca5ca9e2e44a31638c87ef151",
        1_983_410,
    ),
    _yelp15("yelp.train.txt", "2c4c802349fd14b932d2dead17846ca6b4e1b870"),
    _yelp15("yelp.valid.txt", "5280a264fbc11a7795cef76bb79541d67e65c568"),
    _yelp15("yelp.test.txt", "8c61afcb9c034eb53cc390c315c276fbdbed5a19"),
)
_SHORT_YELP = (
    RemoteFile(
        "yelp/short_yelp/short_yelp.train.10000.txt",
        (f"{_DG_VAES}/short_yelp.train.10000.txt",),
        "db61555383043e4032443c9a04bffe2129c8e181f596e437c9c9b56292578c06",
        454_270,
    ),
    RemoteFile(
        "yelp/short_yelp/short_yelp.valid.txt",
        (f"{_DG_VAES}/short_yelp.valid.txt",),
        "34240114bd7b8b8b016c2ea033aaf7efefbc4e5be5aa7c53f95e03260c631521",
        455_377,
    ),
    RemoteFile(
        "yelp/short_yelp/short_yelp.test.txt",
        (f"{_DG_VAES}/short_yelp.test.txt",),
        "56dc9c763128e315b167870ba6714c0f528b335855b7cc469ab3018457daddeb",
        457_602,
    ),
)

TEXT_DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            name="synthetic",
            kind="text",
            title="Sentences of ten words out of 1,000 from a sequential VAE with five latents",
            citation="After He, Spokoyny, Neubig and Berg-Kirkpatrick, Lagging Inference Networks"
            " and Posterior Collapse in Variational Autoencoders, ICLR 2019",
            licence="generated",
            classes=0,
            load=load_documents,
        ),
        DatasetInfo(
            name="yahoo",
            kind="text",
            title="Yahoo Answers, documents of 20 to 200 words",
            citation="Yang, Hu, Salakhutdinov and Berg-Kirkpatrick, Improved Variational"
            " Autoencoders for Text Modeling using Dilated Convolutions, ICML 2017",
            licence="no licence granted; research use only",
            classes=0,
            load=load_documents,
            files=_YAHOO,
            notes=(
                "without the published training file, 10,000 / 5,000 / 5,000 documents of the"
                " validation and test files",
            ),
        ),
        DatasetInfo(
            name="yelp",
            kind="text",
            title="Yelp reviews with 1 to 5 stars",
            citation="Yang, Hu, Salakhutdinov and Berg-Kirkpatrick, Improved Variational"
            " Autoencoders for Text Modeling using Dilated Convolutions, ICML 2017; Xu and"
            " Durrett, Spherical Latent Spaces for Stable Variational Autoencoders, EMNLP 2018",
            licence="Yelp Dataset terms: academic, non-commercial",
            classes=5,
            load=load_documents,
            files=_YELP,
            notes=(
                "where the published Yelp15 split is not at hand, reviews of Yelp 2013 cut at 50"
                " words",
            ),
        ),
        DatasetInfo(
            name="short-yelp",
            kind="text",
            title="Sentences of Yelp reviews, at most 15 words, negative or positive",
            citation="Shen, Lei, Barzilay and Jaakkola, Style Transfer from Non-Parallel Text by"
            " Cross-Alignment, NIPS 2017; Li, He, Neubig, Berg-Kirkpatrick and Yang, EMNLP 2019",
            licence="Yelp Dataset terms: academic, non-commercial",
            classes=2,
            load=load_documents,
            files=_SHORT_YELP,
        ),
    )
}
