"""A training step of the text models' decoders, and the ways to compute their cross-entropy.

python -m benchmarks.text_step [--write] [--rounds 9] [--joint 1]
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Step, arguments, interleave, machine, publish, table
from lidcli.nn.conditional import ConditionalOutput
from lidcli.nn.joint import JointOutput
from lidcli.nn.recurrent import History
from lidcli.nn.sequence import SequenceDecoder
from lidcli.nn.token_output import LinearOutput, SkipOutput, TokenOutput

SENTENCES, LENGTH, LATENT, RANK, REFERENCE = 32, 20, 32, 32, 0
SIZES = [(128, 5_000), (128, 20_000), (256, 5_000), (256, 20_000)]


def decoder(
    kind: str, hidden: int, vocabulary: int, fused: bool = True, latent: int = LATENT
) -> SequenceDecoder:
    """A decoder of `hidden` units and embeddings."""
    torch.manual_seed(0)
    fed = latent if kind in ("svae", "skip") else 0
    history = History(vocabulary, hidden, hidden, latent=fed)
    p = torch.full((vocabulary - 1,), 1 / vocabulary)
    columns, strengths = torch.randn(vocabulary - 1, latent), torch.full((latent,), 0.3)
    output: TokenOutput
    if kind == "conditional":
        output = ConditionalOutput(columns, p, strengths, hidden, reference=REFERENCE, width=RANK)
    elif kind == "joint":
        output = JointOutput(vocabulary, latent, hidden, reference=REFERENCE, width=hidden)
    elif kind == "skip":
        output = SkipOutput(columns, strengths, hidden, reference=REFERENCE)
    else:
        output = LinearOutput(vocabulary, hidden, reference=REFERENCE)
    return SequenceDecoder(history, output, fused=fused)


def batch(vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, lengths and latents."""
    torch.manual_seed(1)
    tokens = torch.randint(1, vocabulary, (SENTENCES, LENGTH))
    return tokens, torch.full((SENTENCES,), LENGTH), torch.randn(SENTENCES, LATENT)


def step(kind: str, hidden: int, vocabulary: int, entropy: str = "fused") -> Step:
    """Forward, backward and Adam; the cross-entropy fused, recomputed or plain."""
    net = decoder(kind, hidden, vocabulary, entropy == "fused")
    tokens, lengths, z = batch(vocabulary)
    z.requires_grad_()
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    latent = None if kind == "lm" else z

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        z.grad = None
        if entropy == "plain":
            logits = net.output.logits(net.features(tokens, latent))
            loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="sum")
        else:
            loss = -net.log_prob(tokens, lengths, latent).sum()
        (loss / SENTENCES).backward()
        optimiser.step()

    return run


def models(rounds: int, joint: bool) -> str:
    """Every decoder at every size."""
    kinds = ["lm", "svae", "skip", "conditional", *(["joint"] if joint else [])]
    rows = []
    for hidden, vocabulary in SIZES:
        times = interleave({kind: step(kind, hidden, vocabulary) for kind in kinds}, rounds)
        ratios = [times.ratio(kind, "svae") for kind in kinds]
        rows.append([hidden, f"{vocabulary:,}", times.median("svae"), *ratios])
    return table(["hidden", "V", "svae, s", *(f"{kind} / svae" for kind in kinds)], rows)


def entropies(rounds: int) -> str:
    """The conditional decoder at V = 20,000 with each cross-entropy."""
    names = ["plain", "recomputed", "fused"]
    cases = {name: step("conditional", 256, 20_000, name) for name in names}
    times = interleave(cases, rounds)
    rows = [[name, times.median(name), times.ratio(name, "plain")] for name in names]
    return table(["cross-entropy", "step, s", "it / plain"], rows)


def main() -> None:
    """Time every case."""
    options = arguments(__doc__ or "", joint=(int, 0, "1 times the joint map too"))
    tokens = SENTENCES * LENGTH
    text = f"""## A step of the text models' decoders

`python -m benchmarks.text_step --rounds {options.rounds}`: forward, backward and Adam for {tokens}
tokens ({SENTENCES} sentences), {LATENT} latents, without the encoder, cross-entropy fused.
Ratios are medians over interleaved rounds, times seconds of processor time. {machine()}.

{models(options.rounds, bool(options.joint))}

The conditional decoder at hidden 256, V = 20,000, by how its cross-entropy is computed:

{entropies(options.rounds)}
"""
    publish("text-step", text, options.write)


if __name__ == "__main__":
    main()
