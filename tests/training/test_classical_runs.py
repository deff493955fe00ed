"""Classical models as runs: the same commands, store and errors as every other model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lidcli.config.sections import Classical, Data, Points
from lidcli.data.drawn import SOURCES, classical
from lidcli.models.ppca import principal_axes
from lidcli.store.run import Run

Lid = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ["--set", "inference.warmup=200", "--set", "inference.draws=300"]


def table(text: str) -> dict[str, float]:
    """The evaluation of a run printed with --json."""
    content = json.loads(text)["evaluation"]
    assert isinstance(content, dict)
    (found,) = content.values()
    return found  # type: ignore[no-any-return]


def settings(name: str, **more: int) -> Data:
    kind = Points if name.startswith("gmvae") else Classical
    return kind(name=name, **more)


def eigenvalues(name: str) -> list[float]:
    x = classical(settings(name)).train.x
    values: list[float] = principal_axes(torch.from_numpy(x))[0].tolist()
    return values


@pytest.mark.parametrize("name", SOURCES)
def test_every_classical_data_set_has_the_paper_s_size_and_its_own_moments(name: str) -> None:
    data = classical(settings(name))
    wanted = {"ppca": 500, "gmm-": 100_000, "gmva": 5000}[name[:4]]
    assert len(data.train.x) == wanted
    assert np.isfinite(data.train.x).all()
    again = classical(settings(name))
    other = classical(settings(name, split_seed=1))
    assert again.sha256 == data.sha256 != other.sha256
    assert not np.array_equal(data.train.x[:10], data.test.x[:10])


def test_the_entropy_of_a_classical_data_set_is_minus_its_mean_log_density() -> None:
    x = classical(settings("gmm-overlapping")).train.x[:, 0]
    gap = (x[:, None].astype(float) - [-0.5, 0.5]) ** 2
    log_p = np.log((np.exp(-0.5 * gap) * [0.15, 0.85]).sum(1) / math.sqrt(2 * math.pi))
    se = log_p.std() / math.sqrt(len(x))
    assert abs(SOURCES["gmm-overlapping"].entropy + log_p.mean()) < 4 * se


def test_a_ppca_run_stores_the_closed_forms(lid: Lid, tmp_path: Path) -> None:
    done = lid("train", "-m", "ppca", "-d", "ppca-2d", "--set", "model.sigma=1.5", "--json")
    assert done.returncode == 0, done.stderr
    found = table(done.stdout)
    first, second, *_ = eigenvalues("ppca-2d")
    kl = [0.5 * math.log(value / 2.25) for value in (first, second)]
    assert found["kl_unit/z/1"] == pytest.approx(kl[0], abs=1e-8)
    assert found["kl_unit/z/2"] == pytest.approx(kl[1], abs=1e-8)
    assert found["kl/z"] == found["kl/joint"] == pytest.approx(sum(kl), abs=1e-8)
    assert found["mi_gaussian/z"] == pytest.approx(sum(kl), abs=1e-8)
    assert 0 < found["mi/z"] <= min(found["log_n"], sum(kl) + 4 * found["mi/z_se"])
    for k, value in enumerate((first, second), start=1):
        assert found[f"fisher/z/{k}"] == pytest.approx(value / 2.25 - 1, rel=1e-8)
        assert found[f"allowed/variance/z/{k}"] == pytest.approx(1 - 2.25 / value, rel=1e-8)
    assert found["elbo"] == found["ll"]
    assert found["ll"] == pytest.approx(found["reconstruction"] - found["kl/joint"], abs=1e-8)
    assert found["au/z"] == 1.0
    for k, value in enumerate((first, second), start=1):
        rho = value / 2.25
        exact = rho * (rho - 1) + 0.5 * (rho - 1) ** 2
        assert found[f"variation/z/{k}"] == pytest.approx(exact, rel=1e-8)
    rest = eigenvalues("ppca-2d")[2:]
    ll = -0.5 * (
        5 * math.log(2 * math.pi)
        + math.log(first * second)
        + 3 * math.log(2.25)
        + 2
        + sum(rest) / 2.25
    )
    assert found["ll"] == pytest.approx(ll, abs=1e-8)
    again = lid("train", "-m", "ppca", "-d", "ppca-2d", "--set", "model.sigma=1.5", "--json")
    assert table(again.stdout) == found
    (folder,) = (tmp_path / "results" / "train").iterdir()
    measured = lid("evaluate", folder.name, "--split", "test", "--json")
    assert measured.returncode == 0, measured.stderr
    assert Run.open(folder).evaluation["test"]["ll"] != found["ll"]
    assert Run.open(folder).evaluation["train"] == found


def test_above_the_first_eigenvalue_the_verdict_is_collapsed(lid: Lid) -> None:
    sigma = math.sqrt(eigenvalues("ppca-2d")[0]) + 0.01
    done = lid("train", "-m", "ppca", "-d", "ppca-2d", "--set", f"model.sigma={sigma}", "--json")
    found = table(done.stdout)
    assert found["kl/z"] == pytest.approx(0.0, abs=1e-12)
    assert found["au/z"] == 0.0
    assert json.loads(done.stdout)["provenance"]["verdict"] == "collapsed"


def test_nuts_is_a_run_like_any_other(lid: Lid, tmp_path: Path) -> None:
    pytest.importorskip("numpyro")
    arguments = ["-m", "ppca", "-d", "ppca-2d", "--set", "model.sigma=1.5"]
    done = lid("train", *arguments, "--set", "inference.kind=nuts", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "R-hat" in done.stdout
    assert "Warning" not in done.stderr
    (folder,) = (tmp_path / "results" / "train").iterdir()
    run = Run.open(folder)
    found = run.evaluation["train"]
    assert run.provenance["converged"] is True
    assert found["nuts/rhat"] < 1.01
    assert found["nuts/ess"] > 100
    assert found["nuts/divergences"] == 0
    assert 0.5 < found["nuts/mean_error"] < 1.5
    for k in (1, 2):
        exact = math.sqrt(found[f"posterior_variance/z/{k}"])
        spread = abs(found[f"nuts/z/{k}/sd"] - exact) / found[f"nuts/z/{k}/sd_se"]
        shift = run.arrays["shown_mean"][k - 1] - found[f"nuts/z/{k}/mean"]
        assert spread < 3
        assert abs(shift) / found[f"nuts/z/{k}/mean_se"] < 3


def test_chains_that_did_not_converge_are_stored_marked_and_warned_about(
    lid: Lid, tmp_path: Path
) -> None:
    pytest.importorskip("numpyro")
    arguments = ["-m", "gmm-joint", "-d", "gmm-single", "--set", "data.train=300"]
    few = ["--set", "inference.warmup=5", "--set", "inference.draws=8"]
    done = lid("train", *arguments, *few)
    assert done.returncode == 0, done.stderr
    assert "did not converge" in done.stdout
    (folder,) = (tmp_path / "results" / "train").iterdir()
    assert Run.open(folder).provenance["converged"] is False
    assert Run.open(folder).status == "complete"
    assert "nuts_alpha" in Run.open(folder).arrays
    again = lid("evaluate", folder.name)
    assert again.returncode == 0
    assert "did not converge" in again.stdout


def test_equal_components_on_a_single_gaussian_leave_the_prior_of_the_weight(lid: Lid) -> None:
    arguments = ["-d", "gmm-single", "--set", "data.train=5000", "--json"]
    shared = lid("train", "-m", "gmm-shared", *arguments)
    found = table(shared.stdout)
    assert found["alpha/mean"] == pytest.approx(0.5, abs=1e-12)
    assert found["alpha/sd"] == pytest.approx(1 / math.sqrt(44), abs=1e-12)
    assert found["kl/alpha"] == pytest.approx(0.0, abs=1e-8)
    document = json.loads(shared.stdout)["provenance"]
    assert document["verdict"] == "collapsed"
    assert "stationary point" in document["verdict_notes"][0]
    maximum = json.loads(lid("train", "-m", "gmm", *arguments).stdout)
    assert "that EM found" in maximum["provenance"]["verdict_notes"][0]
    assert maximum["evaluation"]["train"]["ll"] > found["ll"]


def test_the_maximisers_of_section_2_2_have_one_likelihood_and_two_verdicts(lid: Lid) -> None:
    runs = {}
    for name in ("gmvae-truth", "gmvae-shared"):
        small = ["--set", "data.test=300", "--set", "evaluate.outer=20"]
        done = lid("train", "-m", name, "-d", "gmvae-two", *small, "--json")
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        runs[name] = json.loads(done.stdout)
    first, second = (table(json.dumps(run)) for run in runs.values())
    assert first["ll"] == pytest.approx(second["ll"], abs=1e-8)
    assert first["kl/c"] > 0.68
    assert second["kl/c"] == pytest.approx(0.0, abs=1e-12)
    verdicts = [run["provenance"]["verdict"] for run in runs.values()]
    assert verdicts == ["informative", "collapsed"]


def write_csv(path: Path, values: np.ndarray) -> Path:
    header = ",".join(f"x{i}" for i in range(values.shape[1]))
    np.savetxt(path, values, delimiter=",", header=header, comments="")
    return path


def mine(folder: Path, values: np.ndarray) -> list[str]:
    """Arguments that name a `.csv` of these values."""
    write_csv(folder / "mine.csv", values)
    (folder / "mine.yaml").write_text("data:\n  mine: {kind: points, path: mine.csv}\n")
    return ["-d", "mine", "-c", "mine.yaml"]


@pytest.mark.parametrize("model", ["ppca", "gmm"])
def test_a_csv_of_one_s_own_is_fitted(lid: Lid, tmp_path: Path, model: str) -> None:
    values = np.random.default_rng(0).normal(size=(200, 4)) * [4, 3, 1, 1]
    done = lid("train", "-m", model, *mine(tmp_path, values), "--json")
    assert done.returncode == 0, done.stderr
    assert math.isfinite(table(done.stdout)["ll"])


BAD = {
    "sigma-zero": (["-m", "ppca", "-d", "ppca-2d", "--set", "model.sigma=0"], 2, "greater than 0"),
    "sigma-negative": (["-m", "ppca", "-d", "ppca-2d", "--set", "model.sigma=-1"], 2, "greater"),
    "latent": (["-m", "ppca", "-d", "ppca-2d", "--set", "model.latent=6"], 2, "1 to 5"),
    "shared": (
        ["-m", "ppca", "-d", "ppca-2d", "--set", "inference.theta=shared"],
        2,
        "ml or truth",
    ),
    "kind": (["-m", "ppca", "-d", "ppca-2d", "--set", "inference.kind=amortized"], 2, "exact or"),
    "family": (["-m", "vae", "-d", "digits", "--set", "inference.kind=nuts"], 2, "takes amortized"),
    "truth": (["-m", "gmvae-truth", "-d", "pinwheel"], 2, "gmvae-two"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_that_do_not_go_together_are_refused_in_words(lid: Lid, case: str) -> None:
    arguments, code, said = BAD[case]
    done = lid("train", *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_fewer_points_than_dimensions_and_bad_columns_are_refused(lid: Lid, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(16, 15))
    done = lid("train", "-m", "ppca", *mine(tmp_path, values))
    assert done.returncode == 4
    assert "more points than dimensions" in done.stderr
    constant = np.random.default_rng(0).normal(size=(50, 3))
    constant[:, 1] = 2.0
    done = lid("train", "-m", "ppca", *mine(tmp_path, constant))
    assert done.returncode == 4
    assert "x1" in done.stderr
    constant[3, 1] = math.nan
    done = lid("train", "-m", "ppca", *mine(tmp_path, constant))
    assert done.returncode == 4
    assert "line 5" in done.stderr


def test_nuts_without_the_extra_gives_the_command(lid: Lid, tmp_path: Path) -> None:
    (tmp_path / "numpyro.py").write_text("raise ImportError('not here')\n")
    root = str(Path(__file__).resolve().parents[2])
    done = lid(
        *("train", "-m", "ppca", "-d", "ppca-2d", "--set", "inference.kind=nuts"),
        env={"PYTHONPATH": f"{tmp_path}:{root}"},
    )
    assert done.returncode == 2
    assert 'pip install "lidcli[bayes]"' in done.stderr
    assert sys.executable not in done.stderr
    assert not (tmp_path / "results").exists()
