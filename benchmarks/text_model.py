"""A whole training step of the text models, and what a vocabulary-sized Brenier map would cost.

python -m benchmarks.text_model [--write] [--rounds 9]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference import DoubleBackpropagation
from benchmarks.text_step import decoder
from benchmarks.timing import Step, arguments, interleave, machine, publish, table
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve
from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.data.documents import TextDataset, documents_of, fingerprint
from lidcli.data.vocabulary import Vocabulary
from lidcli.nn import BrenierMap
from lidcli.nn.recurrent import History
from lidcli.training.build import build
from lidcli.training.sources import split_of

ROOT = Path(__file__).resolve().parents[1]
SIZES = [(128, 5_000), (128, 20_000), (256, 5_000), (256, 20_000)]
METHODS = ("lm", "svae", "skip-svae", "lidsvae")
SENTENCES, LENGTH, LATENT = 32, 20, 16
WIDE, WORDS = 1024, 20_000
TOKENS = (320, 640, 1280, 2560)


def documents(words: int) -> TextDataset:
    """Sentences of words drawn by Zipf's law."""
    rng = np.random.default_rng(0)
    p = 1 / np.arange(1, words + 1)
    parts = []
    for count in (4000, 200, 200):
        ids = rng.choice(words, size=(count, LENGTH - 1), p=p / p.sum()) + 2
        parts.append(documents_of(ids.tolist()))
    vocabulary = Vocabulary([f"w{i}" for i in range(words)])
    return TextDataset("zipf", *parts, vocabulary, None, fingerprint(vocabulary, *parts))


def model_step(method: str, hidden: int, data: TextDataset, *settings: str) -> Step:
    """Posterior, draw, decoder, backward, clipping and Adam, as `lid train` does them."""
    latent = [] if method == "lm" else [f"model.latent={LATENT}"]
    nets = ["decoder"] if method == "lm" else ["decoder", "encoder"]
    sizes = [f"{net}.{key}={hidden}" for net in nets for key in ("hidden", "embedding")]
    config = resolve(
        load_files([ROOT / "experiments.yaml"]),
        model=method,
        data="yahoo",
        overrides=[parse_override(text) for text in (*latent, *sizes, *settings)],
    )
    return update(config, data, SENTENCES)


def update(config: RunConfig, data: Dataset, size: int) -> Step:
    """A joint step on the first `size` training data."""
    assert config.train is not None
    clip = config.train.clip
    torch.manual_seed(0)
    model = build(config, data)
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, 1e-3)
    batch = split_of(data, "train").fixed().rows(slice(0, size))

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        terms = model.terms(batch, model.posterior(batch).draw(1))
        (terms.kl - terms.reconstruction).mean().backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()

    return run


def whole() -> dict[tuple[int, int], dict[str, Step]]:
    """Every method at every size."""
    data = {words: documents(words) for words in {words for _, words in SIZES}}
    return {
        (hidden, words): {name: model_step(name, hidden, data[words]) for name in METHODS}
        for hidden, words in SIZES
    }


def wide_tokens(sentences: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, lengths and latents of sentences."""
    torch.manual_seed(1)
    ids = torch.randint(1, WORDS, (sentences, LENGTH))
    z = torch.randn(sentences, LATENT, requires_grad=True)
    return ids, torch.full((sentences,), LENGTH), z


def output(sentences: int) -> Step:
    """The conditional output alone: features, cross-entropy and backward."""
    net = decoder("conditional", WIDE, WORDS, latent=LATENT).output
    tokens, _, z = wide_tokens(sentences)
    h = torch.randn(sentences, LENGTH, WIDE, requires_grad=True)

    ones = torch.ones(tokens.numel())

    def run() -> None:
        net.zero_grad(set_to_none=True)
        z.grad = h.grad = None
        rows = net.features(z, h).flatten(0, -2)
        found = net.log_prob(rows, tokens.flatten(), anticipated=ones)
        (-found.sum() / sentences).backward()

    return run


def dense_output(sentences: int) -> Step:
    """The same of Example 2's g2."""
    torch.manual_seed(0)
    g2 = DoubleBackpropagation(BrenierMap(WORDS, WIDE, 3, active=WIDE + LATENT))
    tokens, _, _ = wide_tokens(sentences)
    u = torch.randn(sentences * LENGTH, WIDE + LATENT, requires_grad=True)

    def run() -> None:
        g2.zero_grad(set_to_none=True)
        u.grad = None
        F.cross_entropy(g2(u), tokens.flatten(), reduction="sum").div(sentences).backward()

    return run


def ours(sentences: int) -> Step:
    """The conditional decoder at the wide size."""
    net = decoder("conditional", WIDE, WORDS, latent=LATENT)
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    tokens, lengths, z = wide_tokens(sentences)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        (-net.log_prob(tokens, lengths, z).sum() / sentences).backward()
        optimiser.step()

    return run


def dense(sentences: int) -> Step:
    """Example 2 as it is written: a Brenier map onto the logits, its gradient taken twice."""
    torch.manual_seed(0)
    history = History(WORDS, WIDE, WIDE)
    g2 = DoubleBackpropagation(BrenierMap(WORDS, WIDE, 3, active=WIDE + LATENT))
    parameters = [*history.parameters(), *g2.parameters()]
    optimiser = torch.optim.Adam(parameters, 1e-3)
    tokens, _, z = wide_tokens(sentences)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        h = history(tokens)
        u = torch.cat([z[:, None].expand(-1, LENGTH, -1), h], -1).flatten(0, 1)
        F.cross_entropy(g2(u), tokens.flatten(), reduction="sum").div(sentences).backward()
        optimiser.step()

    return run


def singular_values() -> Step:
    """The SVD of a matrix of a vocabulary's size, which the paper's authors take in every step."""
    matrix = torch.randn(WORDS, WIDE + LATENT)

    def run() -> None:
        torch.linalg.svd(matrix, full_matrices=False)

    return run


def against(name: str, mine: Step, other: Step, rounds: int) -> list[list[object]]:
    """A row: both steps and their ratio."""
    times = interleave({"ours": mine, "dense": other}, rounds, warmup=1)
    return [[name, times.median("ours"), times.median("dense"), times.ratio("dense", "ours")]]


def with_svd(rows: list[list[object]], svd: float) -> list[list[object]]:
    """The rows with the ratio that an SVD in every step of the dense map makes."""
    return [[*row, (float(str(row[2])) + svd) / float(str(row[1]))] for row in rows]


def peaks() -> list[int]:
    """Peak memory of a step by tokens a batch, MiB, each in a process of its own."""
    code = "from benchmarks.text_model import peak; import sys; print(peak(int(sys.argv[1])))"
    return [
        int(
            subprocess.run(
                [sys.executable, "-c", code, str(tokens)],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for tokens in TOKENS
    ]


def peak(tokens: int) -> int:
    """Peak resident memory after two steps of the conditional decoder; a new process's own."""
    torch.set_num_threads(1)
    step = ours(tokens // LENGTH)
    step()
    step()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def main() -> None:
    """Time every case."""
    options = arguments(__doc__ or "")
    rows = []
    for (hidden, words), cases in whole().items():
        times = interleave(cases, options.rounds)
        ratios = [times.ratio(name, "svae") for name in METHODS]
        rows.append([hidden, f"{words:,}", times.median("svae"), *ratios])
    methods = table(["hidden", "V", "svae, s", *(f"{name} / svae" for name in METHODS)], rows)
    rounds = max(3, options.rounds // 3)
    cells = []
    for tokens in (TOKENS[1], TOKENS[-1]):
        sentences = tokens // LENGTH
        cells += against(f"decoder, {tokens:,}", ours(sentences), dense(sentences), rounds)
        cells += against(f"output, {tokens:,}", output(sentences), dense_output(sentences), rounds)
    svd = interleave({"SVD": singular_values()}, rounds, warmup=1).median("SVD")
    memory = peaks()
    text = f"""## A whole step of the text models

`python -m benchmarks.text_model --rounds {options.rounds}`: posterior, draw, decoder, backward,
clipping and Adam for {SENTENCES * LENGTH} tokens ({SENTENCES} sentences), {LATENT} latents.
Ratios are medians over interleaved rounds, times seconds of processor time. {machine()}.

{methods}

At V = {WORDS:,} and hidden {WIDE}, by tokens a batch ({rounds} rounds): a step of the decoder with
Adam, or its output layer forward and backward; ours against Example 2 with a dense Brenier map
onto the logits by double backpropagation. The SVD of a matrix of {WORDS:,} × {WIDE + LATENT}, which
the paper's authors take in every step, takes {svd:.3g} s by itself.

{table(["", "ours, s", "dense, s", "dense / ours", "with the SVD"], with_svd(cells, svd))}

Peak memory of a process that takes steps of ours, MiB:

{table(["tokens a batch", *(f"{tokens:,}" for tokens in TOKENS)], [["MiB", *memory]])}
"""
    publish("text-model", text, options.write)


if __name__ == "__main__":
    main()
