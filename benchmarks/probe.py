"""What a classifier with the labels at hand gets right: how far a probe of a latent could get.

python -m benchmarks.probe [--data yelp,short-yelp]

The documents are those of the experiments, cut as there. Three figures on the test part: always
the commonest label; a logistic regression of words (tf-idf) trained on the labels of the
training part; and the probe of `lid`, of a latent semantic analysis with as many dimensions as
the model has latents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from lidcli.config.read import load_files
from lidcli.config.resolve import resolve
from lidcli.data.documents import Documents, TextDataset
from lidcli.metrics.text import probe

ROOT = Path(__file__).parents[1]


def counts(documents: Documents, words: int) -> csr_matrix:
    """How often each word is in each document, (N, V)."""
    rows = np.repeat(np.arange(len(documents)), documents.lengths)
    ones = np.ones(len(rows))
    return csr_matrix((ones, (rows, documents.ids)), shape=(len(documents), words))


def main() -> None:
    """Print a row for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="yelp,short-yelp")
    print("| data | commonest label, % | words, trained on labels, % | LSA, probe, % |")
    print("|---|--:|--:|--:|")
    for name in parser.parse_args().data.split(","):
        config = resolve(load_files([ROOT / "experiments.yaml"]), model="lidsvae", data=name)
        data = config.data.build()
        assert isinstance(data, TextDataset)
        words, train, test = len(data.vocabulary), data.train.labels, data.test.labels
        weighted = TfidfTransformer(sublinear_tf=True)
        seen = weighted.fit_transform(counts(data.train, words))
        new = weighted.transform(counts(data.test, words))
        best = LogisticRegression(max_iter=2000).fit(seen, train).score(new, test)
        analysis = TruncatedSVD(config.model.latent, random_state=0).fit(seen)
        found = probe(analysis.transform(new), test)
        assert found is not None
        common = np.bincount(test).max() / len(test)
        cells = [f"{100 * x:.1f}" for x in (common, best, found.value)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
