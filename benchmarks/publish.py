"""Copies finished runs to results/published/, without weights and without a machine's paths.

python -m benchmarks.publish results/digits-depth [--bare] [--into results/published]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from lidcli.store.run import Run

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("-o", "--results")


def portable(told: Any) -> Any:
    """Provenance whose commands name no folder and no launcher of the machine they ran on."""
    if isinstance(told, dict):
        return {k: _command(v) if k == "argv" else portable(v) for k, v in told.items()}
    return [portable(value) for value in told] if isinstance(told, list) else told


def _command(argv: list[str]) -> list[str]:
    words = ["lid", *argv[1:]]
    kept = zip(words, ["", *words], strict=False)
    return [
        Path(word).name if Path(word).is_absolute() else word
        for word, before in kept
        if not {word, before} & {*FOLDERS}
    ]


def publish(source: Path, into: Path, bare: bool) -> Path:
    """Write one run's record below `into`, in place of what another run of that name left."""
    run = Run.open(source)
    folder, provenance = into / source.parent.name / source.name, portable(run.provenance)
    if (folder / "run.h5").exists():
        if Run.open(folder).provenance == provenance:
            return folder
        shutil.rmtree(folder)
    config = {**run.config, "data": {**run.config["data"], "root": "data"}}
    copy = Run.create(folder, config, provenance)
    with copy.lock():
        arrays = {} if bare else run.arrays
        copy.update(curves=run.curves, arrays=arrays)
        for split, figures in run.evaluation.items():
            copy.update(evaluation=(split, figures))
    (copy.folder / ".lock").unlink(missing_ok=True)
    return copy.folder


def main() -> None:
    """Publish every complete run of an experiment's folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of an experiment's runs")
    parser.add_argument("--into", type=Path, default=ROOT / "results" / "published")
    parser.add_argument("--bare", action="store_true", help="without arrays for figures")
    options = parser.parse_args()
    for record in sorted(options.folder.glob("*/run.h5")):
        if Run.open(record.parent).status == "complete":
            print(publish(record.parent, options.into, options.bare))


if __name__ == "__main__":
    main()
