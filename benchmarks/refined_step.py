"""A training step of SA-VAE on text, by how its refinements are differentiated.

python -m benchmarks.refined_step [--write] [--rounds 9]
"""

from __future__ import annotations

from benchmarks.text_model import LENGTH, SENTENCES, documents, model_step
from benchmarks.timing import arguments, interleave, machine, publish, table

SIZES = [(128, 5_000), (256, 20_000)]
REFINEMENTS = 5
HESSIANS = ("exact", "finite")


def main() -> None:
    """Time both ways against a step of `svae`."""
    options = arguments(__doc__ or "")
    rows = []
    for hidden, words in SIZES:
        data = documents(words)
        steps = {"svae": model_step("svae", hidden, data)}
        for name in HESSIANS:
            settings = (f"inference.hessian={name}", f"inference.steps={REFINEMENTS}")
            steps[name] = model_step("sa-vae", hidden, data, *settings)
        times = interleave(steps, options.rounds)
        ratios = [times.ratio(name, "svae") for name in HESSIANS]
        rows.append([hidden, f"{words:,}", times.median("svae"), *ratios])
    text = f"""## A step of SA-VAE through the LSTM

`python -m benchmarks.refined_step --rounds {options.rounds}`: as a whole step above, {REFINEMENTS}
refinements, {SENTENCES * LENGTH} tokens; a refinement differentiated twice
(`inference.hessian=exact`), or by central differences of two gradients (`finite`). {machine()}.

{table(["hidden", "V", "svae, s", *(f"{name} / svae" for name in HESSIANS)], rows)}
"""
    publish("refined-step", text, options.write)


if __name__ == "__main__":
    main()
