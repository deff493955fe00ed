"""`lid diagnose`: measure a model of the user's own."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from lidcli.cli import options
from lidcli.errors import ConfigError, DataError, cause
from lidcli.names import nearest

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["diagnose"]

LARGEST_INTEGER = 2**63 - 1


@click.command(no_args_is_help=True)
@click.argument("model", metavar="SCRIPT.py:NAME")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Data: an .npz with the key x (N, ...), or a .csv of numbers, a datum a line.",
)
@click.option(
    "--likelihood",
    metavar="NAME",
    help="What decode returns: bernoulli (probabilities), bernoulli-logits or gaussian (means).",
)
@click.option("--sigma", type=float, help="Noise sd of the gaussian likelihood.")
@click.option(
    "--samples", type=click.IntRange(2), default=100, show_default=True, help="S of the LL."
)
@click.option(
    "--batch",
    type=click.IntRange(1, LARGEST_INTEGER),
    default=1000,
    show_default=True,
    help="Decodings held at a time.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_INTEGER),
    default=0,
    show_default=True,
    help="Seed of the draws.",
)
@click.option(
    "--device", metavar="cpu|cuda[:i]", help="Where the model is (default: found by itself)."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a figure of the units, .png or .pdf.",
)
@options.json_option
@options.quiet_option
@options.verbose_option
def diagnose(
    model: str,
    data: Path,
    likelihood: str | None,
    sigma: float | None,
    samples: int,
    batch: int,
    seed: int,
    device: str | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure whether a VAE of your own has collapsed.

    SCRIPT.py is imported, and nothing else; NAME in it is your trained model:
    an object with encode and decode, or a dictionary of functions. KL, MI, ELBO
    and LL are in nats per datum, AU is a fraction. See docs/DIAGNOSE.md.

    \b
      lid diagnose train_vae.py:model --data test.npz --likelihood bernoulli
    """
    if plot is not None:
        _check_plot(plot)
    x = read(data)
    made = load(model)
    from lidcli.diagnose import diagnose as measure

    try:
        found = measure(
            x,
            made,
            likelihood=likelihood,
            sigma=sigma,
            samples=samples,
            batch=batch,
            device=device,
            progress=None if quiet or as_json or not sys.stderr.isatty() else _show,
            seed=seed,
        )
    except ValueError as error:
        said = str(error)
        raise ConfigError(said if said.endswith((".", "?")) else f"{said}.") from error
    if as_json:
        options.print_json("diagnose", {"model": model, "data": data, **found.to_dict()})
    else:
        click.echo(str(found))
    if plot is not None:
        found.plot().savefig(plot)


def load(text: str) -> Any:
    """The object that SCRIPT.py:NAME names, the script imported as a module of its own.

    Raises:
        ConfigError: no such file, the script fails, or it has no such name.
    """
    path, _, name = text.rpartition(":")
    script = Path(path)
    if not path.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"{text!r} names no model; expected SCRIPT.py:NAME, as vae.py:model.")
    if not script.is_file():
        raise ConfigError(f"{script} does not exist.")
    module = _imported(script)
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise ConfigError(f"{script} has no {name!r}; {nearest(name, known)}")
    return getattr(module, name)


def _imported(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.stem, script.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(script.stem)
    sys.modules[script.stem] = module
    sys.path.insert(0, str(script.resolve().parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if before is not None:
            sys.modules[script.stem] = before
        raise ConfigError(f"{script} cannot be imported: {cause(error)}") from error
    return module


def read(path: Path) -> NDArray[Any]:
    """Data (N, ...) of an .npz with the key x, or of a .csv, with or without a line of names.

    Raises:
        DataError: no such file, or one of another form.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; --data names an .npz or a .csv file.")
    if path.suffix == ".csv":
        from lidcli.data.points import read_numbers

        return read_numbers(path)
    if path.suffix != ".npz":
        raise DataError(f"{path} is neither an .npz nor a .csv file.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "x" not in arrays:
                held = ", ".join(arrays) or "nothing"
                raise DataError(f"{path} holds {held}, where an array x is expected.")
            x: NDArray[Any] = arrays["x"]
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path} is no .npz file of plain numbers.") from error
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path}: x holds {x.dtype}, where numbers are expected.")
    return x


def _check_plot(path: Path) -> None:
    """See, before anything is measured, that there is a place for a figure."""
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--plot {path}: expected a name ending in .png, .pdf or .svg.")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path}: there is no folder {path.parent}.")


def _show(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    click.echo(f"\r{done / total:4.0%} measured{end}", err=True, nl=False)
