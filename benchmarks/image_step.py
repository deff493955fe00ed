"""A whole training step of the image mixtures, against one of `vae`.

python -m benchmarks.image_step [--write] [--rounds 9]
"""

from __future__ import annotations

from benchmarks.text_model import ROOT, update
from benchmarks.timing import Step, arguments, interleave, machine, publish, table
from lidcli.config.read import load_files, parse_override
from lidcli.config.resolve import resolve

DATA, BATCH = "mnist", 100
SIZES = tuple(f"{net}.hidden=128" for net in ("decoder", "encoder", "inference"))
CASES = {
    "vae": ("vae", "explicit"),
    "skip-vae": ("skip-vae", "explicit"),
    "shear-vae": ("shear-vae", "explicit"),
    "lidvae": ("lidvae", "explicit"),
    "lidvae, sampled": ("lidvae", "sampled"),
    "lidvae, collapsed": ("lidvae", "collapsed"),
}


def step(method: str, categorical: str) -> Step:
    """Posterior, draw, decoder, backward, clipping and Adam, as `lid train` does them."""
    config = resolve(
        load_files([ROOT / "experiments.yaml"]),
        model=method,
        data=DATA,
        overrides=[
            parse_override(text) for text in (*SIZES, f"inference.categorical={categorical}")
        ],
    )
    return update(config, config.data.build(), BATCH)


def main() -> None:
    """Time every case."""
    options = arguments(__doc__ or "")
    times = interleave({name: step(*case) for name, case in CASES.items()}, options.rounds)
    explicit = "lidvae"
    rows = [
        [name, times.median(name), times.ratio(name, "vae"), times.ratio(name, explicit)]
        for name in CASES
    ]
    text = f"""## A whole step of the image mixtures

`python -m benchmarks.image_step --rounds {options.rounds}`: posterior, draw, decoder, backward,
clipping and Adam for {BATCH} images of MNIST, ten categories, hidden 128, 9 layers. Ratios are
medians over interleaved rounds, times seconds of processor time. {machine()}.

{table(["", "step, s", "it / vae", "it / explicit lidvae"], rows)}
"""
    publish("image-step", text, options.write)


if __name__ == "__main__":
    main()
