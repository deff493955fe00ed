"""Has this model collapsed: verdicts, what they are read from, and what a wrong call is told."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diagnose.models import PlainVAE, digits, trained
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor, nn
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
    Uniform,
)

from lidcli.diagnose import Diagnosis, diagnose

FEW = {"samples": 20}
WEIGHT = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.5, 0.5]])


def linear(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, :2] / 2, torch.full_like(x[:, :2], -0.7)


def decode(z: Tensor) -> Tensor:
    return z @ WEIGHT.T


def data(n: int = 300) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n, 2, generator=generator)
    return decode(z) + torch.randn(n, 3, generator=generator)


def gaussian(x: Any, **more: Any) -> Diagnosis:
    named = {"encode": linear, "decode": decode, "likelihood": "gaussian", "sigma": 1.0}
    return diagnose(x, **(named | FEW | more))


@pytest.fixture(scope="module")
def healthy() -> Diagnosis:
    return diagnose(digits(), trained(1.0, 12), likelihood="bernoulli", **FEW)


@pytest.fixture(scope="module")
def collapsed() -> Diagnosis:
    return diagnose(digits(), trained(20.0, 4), likelihood="bernoulli", **FEW)


def test_a_healthy_vae_is_informative(healthy: Diagnosis) -> None:
    assert healthy.label == "informative"
    assert healthy.verdict.startswith("The latent is informative: AU 1.00 >= 0.8")
    assert healthy.au == 1.0
    assert healthy.kl.value > 1
    assert healthy.mi.value > 1


def test_a_vae_of_too_large_a_weight_is_collapsed(collapsed: Diagnosis) -> None:
    assert collapsed.label == "collapsed"
    assert not any(unit.active for unit in collapsed.units)
    assert collapsed.kl.value < 0.05
    assert any("collapsed though the decoder moves" in text for text in collapsed.advice)


def test_the_bounds_are_ordered_and_add_up(healthy: Diagnosis) -> None:
    assert healthy.ll is not None
    assert healthy.elbo is not None
    assert healthy.reconstruction is not None
    assert healthy.elbo.value <= healthy.ll.value
    assert healthy.elbo.value == pytest.approx(healthy.reconstruction.value - healthy.kl.value)
    assert sum(unit.kl or 0 for unit in healthy.units) == pytest.approx(healthy.kl.value, abs=0.2)


def test_an_encoder_that_ignores_x_is_a_finding_and_no_error() -> None:
    found = gaussian(data(), encode=lambda x: (0 * x[:, :2], 0 * x[:, :2]))
    assert found.label == "collapsed"
    assert "encode gives the same answer for all data: it ignores x." in found.advice
    assert found.kl.value == 0


def test_a_decoder_that_ignores_z_is_told_from_an_encoder_that_ignores_x() -> None:
    still: dict[str, Any] = {"encode": lambda x: (0 * x[:, :2], 0 * x[:, :2])}
    deaf = gaussian(data(), **still, decode=lambda z: 0 * decode(z))
    assert all(unit.fisher == 0 and unit.allowed == 0 for unit in deaf.units)
    assert any("collapsed: it hardly moves" in t or "in the decoder" in t for t in deaf.advice)
    blind = gaussian(data(), **still)
    assert [unit.fisher for unit in blind.units] == pytest.approx([1.25, 0.5])


def test_an_encoder_in_one_corner_leaves_the_prior_unused() -> None:
    found = gaussian(data(), encode=lambda x: (5 + linear(x)[0], linear(x)[1]))
    assert found.unused_prior
    assert any("from the prior (KL - MI)" in text for text in found.advice)
    assert any("from the model's own (LL - ELBO)" in text for text in found.advice)


def test_it_prints_within_80_columns(healthy: Diagnosis, collapsed: Diagnosis) -> None:
    many = diagnose(torch.randn(99, 40), encode=lambda x: (x, 0 * x - 2), samples=2)
    tiny = diagnose(torch.randn(99, 3), encode=lambda x: (1e-6 * x, 1e-8 * x), samples=2)
    noisy = diagnose(
        torch.randn(99, 3),
        encode=lambda x: Laplace(1e-6 * x, 0.7 + 0 * x),
        samples=2000,
        batch=10**6,
    )
    assert re.search(r" \d\.\d+e-1\d ± \de-1\d ", str(tiny))
    for found in (healthy, collapsed, many, tiny, noisy):
        assert max(map(len, str(found).splitlines())) <= 80
    assert "and 28 more, of lower variance" in str(many)


def test_its_html_is_well_formed_and_escaped(healthy: Diagnosis) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    page = Balance()
    page.feed(healthy._repr_html_())
    assert page.open == []
    assert "&gt;= 0.8" in healthy._repr_html_()


def test_it_is_plain_values(healthy: Diagnosis) -> None:
    document = json.loads(json.dumps(healthy.to_dict(), allow_nan=False))
    assert document["label"] == "informative"
    assert document["figures"]["kl/z"] == healthy.kl.value
    assert [unit["index"] for unit in document["units"]] == [1, 2, 3, 4]


def test_its_figure_has_bars_of_all_three_figures_of_a_unit(healthy: Diagnosis) -> None:
    panels = {axes.get_ylabel(): axes for axes in healthy.plot().axes}
    heights = {
        name: [bar.get_height() for bar in axes.containers[0].patches]
        for name, axes in panels.items()
    }
    units = healthy.ranked()
    assert heights["variance of mean"] == pytest.approx([unit.variance for unit in units])
    assert heights["KL (nats)"] == pytest.approx([unit.kl for unit in units])
    assert heights["Fisher information"] == pytest.approx([unit.fisher for unit in units])


def hatched(found: Diagnosis) -> int:
    return sum(patch.get_hatch() is not None for patch in found.plot().axes[0].patches)


def test_collapsed_units_are_told_by_more_than_colour(
    healthy: Diagnosis, collapsed: Diagnosis
) -> None:
    assert (hatched(healthy), hatched(collapsed)) == (0, 4)
    assert "repeating-linear-gradient" not in healthy._repr_html_()
    assert "repeating-linear-gradient" in collapsed._repr_html_()
    assert collapsed._repr_html_().count("<td>collapsed</td>") == 4


@pytest.mark.parametrize("units", [1, 16, 64])
def test_a_figure_of_any_number_of_units_has_all_its_text_inside(units: int) -> None:
    """And bars of a notebook's table are none wider than the widest."""
    x = torch.randn(99, units, generator=torch.Generator().manual_seed(0))
    found = diagnose(x, encode=lambda x: (x, 0 * x - 2), samples=2)
    figure = found.plot()
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width
    FigureCanvasAgg(figure).draw()
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert (box.max <= figure.get_size_inches()).all()
    widths = [float(w) for w in re.findall(r"width:([\d.]+)em", found._repr_html_())]
    assert max(widths) == 5.0


def test_its_figure_can_be_written(healthy: Diagnosis, tmp_path: Any) -> None:
    healthy.plot().savefig(tmp_path / "units.png")
    assert (tmp_path / "units.png").stat().st_size > 5000


def test_the_seed_fixes_the_figures_and_the_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = gaussian(data()), gaussian(data()), gaussian(data(), seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert first.scalars == again.scalars
    assert first.scalars["elbo"] != other.scalars["elbo"]


def test_memory_grows_with_the_batch_alone() -> None:
    seen = []

    def counted(z: Tensor) -> Tensor:
        seen.append(len(z))
        return decode(z)

    gaussian(data(300), decode=counted, batch=70, samples=9)
    assert max(seen) <= 70


def test_parts_do_not_change_what_is_measured() -> None:
    """Where the posterior is the model's own, LL is exact at any number of draws."""
    precision = torch.eye(2) + WEIGHT.T @ WEIGHT
    spread = torch.linalg.inv(precision)
    exact = {"encode": lambda x: MultivariateNormal(x @ WEIGHT @ spread, spread)}
    covariance = WEIGHT @ WEIGHT.T + torch.eye(3)
    truth = MultivariateNormal(torch.zeros(3), covariance).log_prob(data()).mean().item()
    for batch in (37, 1000):
        found = gaussian(data(), **exact, batch=batch, samples=2)
        assert found.ll is not None
        assert found.ll.value == pytest.approx(truth, abs=1e-4)


def shifted(x: Tensor) -> Distribution:
    mean, log_variance = linear(x)
    unit = Independent(Normal(torch.zeros_like(mean), 1.0), 1)
    affine = AffineTransform(mean, (log_variance / 2).exp(), event_dim=1)
    return TransformedDistribution(unit, [affine])


ENCODERS: dict[str, Callable[[Tensor], Any]] = {
    "Normal": lambda x: Normal(linear(x)[0], (linear(x)[1] / 2).exp()),
    "Independent": lambda x: Independent(Normal(linear(x)[0], (linear(x)[1] / 2).exp()), 1),
    "MultivariateNormal": lambda x: MultivariateNormal(
        linear(x)[0], torch.diag_embed(linear(x)[1].exp())
    ),
    "TransformedDistribution": shifted,
    "list": lambda x: list(linear(x)),
    "mapping": lambda x: dict(zip(("embedding", "log_covariance"), linear(x), strict=True)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_form_of_an_encoder_gives_the_same_figures(name: str) -> None:
    pair = gaussian(data())
    found = gaussian(data(), encode=ENCODERS[name], batch=120)
    for key in ("elbo", "kl/z", "mi/z", "ll"):
        near = 4 * pair.scalars[f"{key}_se"]
        assert found.scalars[key] == pytest.approx(pair.scalars[key], abs=near)
    assert found.units[0].kl == pytest.approx(pair.units[0].kl, abs=0.05)


def test_every_form_of_a_likelihood_gives_the_same_figures() -> None:
    def log_prob(x: Tensor, z: Tensor) -> Tensor:
        return Normal(decode(z), 1.0).log_prob(x).sum(1)

    named = gaussian(data())
    given = diagnose(data(), encode=linear, log_prob=log_prob, **FEW)
    drawn = diagnose(data(), encode=linear, decode=lambda z: Normal(decode(z), 1.0), **FEW)
    assert given.scalars["ll"] == pytest.approx(named.scalars["ll"], rel=1e-5)
    assert drawn.scalars["ll"] == pytest.approx(named.scalars["ll"], rel=1e-5)
    for found in (given, drawn):
        assert found.units[0].fisher is None
        assert any(text.startswith("Fisher information, and") for text in found.notes)
    assert not named.notes


def test_probabilities_and_log_odds_give_the_same_figures() -> None:
    x = (data() > 0).float()
    found = [
        gaussian(x, sigma=None, likelihood=name, decode=made)
        for name, made in (
            ("bernoulli", lambda z: torch.sigmoid(decode(z))),
            ("bernoulli-logits", decode),
        )
    ]
    bits = diagnose(x, encode=linear, decode=lambda z: Bernoulli(logits=decode(z)), **FEW)
    for other in (found[1], bits):
        assert other.scalars["ll"] == pytest.approx(found[0].scalars["ll"], rel=1e-4)
    assert found[0].units[0].fisher == pytest.approx(found[1].units[0].fisher, rel=1e-3)


def test_probabilities_that_are_one_to_rounding_are_told() -> None:
    x = torch.ones(50, 3)
    found = gaussian(x, sigma=None, likelihood="bernoulli", decode=lambda z: torch.ones(len(z), 3))
    assert any("0 or 1 to rounding" in text for text in found.notes)


def test_grey_values_are_told_to_be_no_bits(healthy: Diagnosis) -> None:
    assert any("no probabilities" in text for text in healthy.notes)


def test_an_encoder_alone_has_a_verdict_and_no_likelihood() -> None:
    found = diagnose(data(), encode=linear, **FEW)
    assert found.ll is None
    assert found.elbo is None
    assert "ll" not in found.scalars
    assert found.kl.value == pytest.approx(gaussian(data()).kl.value, abs=0.02)


def test_a_prior_of_ones_own() -> None:
    wide = gaussian(data(), prior=Normal(torch.zeros(2), torch.full((2,), 2.0)))
    standard = gaussian(data(), prior=MultivariateNormal(torch.zeros(2), torch.eye(2)))
    assert standard.kl.value == pytest.approx(gaussian(data()).kl.value, abs=0.05)
    assert wide.kl.value > standard.kl.value
    assert wide.units[0].kl is not None
    assert standard.units[0].kl == pytest.approx(gaussian(data()).units[0].kl)


def test_images_and_latents_may_have_any_shape() -> None:
    x = data().view(-1, 1, 3, 1)
    found = gaussian(
        x,
        encode=lambda x: tuple(t.view(-1, 2, 1, 1) for t in linear(x.flatten(1))),
        decode=lambda z: decode(z.flatten(1)).view(-1, 1, 3, 1),
    )
    assert found.scalars["elbo"] == pytest.approx(gaussian(data()).scalars["elbo"], rel=1e-5)


def test_arrays_and_lists_are_taken_as_they_come() -> None:
    assert gaussian(data().double().numpy()).scalars == gaussian(data()).scalars
    assert gaussian(data().tolist()).scalars == gaussian(data()).scalars


def test_a_model_in_training_is_switched_for_the_time_and_this_is_said() -> None:
    model = PlainVAE(dropout=0.5)
    model.fc3.eval()
    found = diagnose(digits()[:200], model, likelihood="bernoulli", **FEW)
    assert any("training mode, with Dropout" in text for text in found.notes)
    assert model.training
    assert model.drop.training
    assert not model.fc3.training


def test_a_model_is_set_back_after_an_error_too() -> None:
    model = PlainVAE(dropout=0.5)
    with pytest.raises(ValueError, match="decode returned"):
        diagnose(
            digits()[:200],
            encode=lambda x: model.encode(x),
            decode=lambda z: model.decode(z)[:, :9],
            likelihood="bernoulli",
        )
    assert model.drop.training


PROGRESS: dict[str, dict[str, Any]] = {
    "decoder": {},
    "encoder alone": {"decode": None, "likelihood": None, "sigma": None},
    "a density": {
        "decode": None,
        "likelihood": None,
        "sigma": None,
        "log_prob": lambda x, z: -(x - decode(z)).square().sum(1),
    },
    "no derivative": {"decode": lambda z: torch.tensor(decode(z).detach().numpy())},
    "joint": {"encode": lambda x: MultivariateNormal(linear(x)[0], torch.eye(2))},
    "flow": {"encode": lambda x: shifted(x)},
}


@pytest.mark.parametrize("name", PROGRESS)
def test_progress_is_of_the_whole_work_and_ends_with_it(name: str) -> None:
    seen: list[tuple[int, int]] = []
    gaussian(
        data(), **PROGRESS[name], progress=lambda *told: seen.append(told), batch=100, samples=20
    )
    done, totals = zip(*seen, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert seen[-1] == (totals[0], totals[0])
    assert max(b - a for a, b in itertools.pairwise(done)) <= totals[0] / 4
    assert len(seen) > 10


def test_every_part_of_the_work_has_its_share_of_progress() -> None:
    """Bounds, MI, Fisher information of two units, and the units' KL."""
    seen: list[tuple[int, int]] = []
    gaussian(data(), progress=lambda *told: seen.append(told), batch=100, samples=20)
    parts = [300 * 20, 300 * 5, 64 * 2 * 10, 300]
    for end in itertools.accumulate(parts[:3]):
        assert any(abs(done - end) <= 1 for done, _ in seen)
    assert seen[-1] == (sum(parts), sum(parts))


class Frozen(nn.Module):
    """Its weights are nowhere: on a device that is not the encoder's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 4)
        self.decoder = nn.Linear(2, 3, device="meta")

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.encoder(x).chunk(2, 1)


class Undrawn(Distribution):
    arg_constraints: ClassVar[dict[str, Any]] = {}


class Unasked(Normal):
    """Whose support fails in its own way."""

    @property
    def support(self) -> Any:
        raise KeyError("support")


def raises(error: Exception) -> None:
    raise error


def asserts(z: Tensor) -> None:
    raise AssertionError


UNNAMED = {"likelihood": None, "sigma": None}
NAN = data().clone()
NAN[7, 1] = math.nan
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "variances": (
        {"encode": lambda x: (x[:, :2], 0.1 + 0 * x[:, :2])},
        "looks like variances .* 0.1 to 0.1",
    ),
    "huge variances": (
        {"encode": lambda x: (x[:, :2], 400 + 0 * x[:, :2])},
        "log variances reach 400",
    ),
    "a sample": ({"encode": lambda x: x[:, :2]}, r"returned one tensor of shape \(256, 2\)"),
    "three": ({"encode": lambda x: (x, x, x)}, "returned 3 tensors, where two"),
    "shapes": ({"encode": lambda x: (x[:, :2], x)}, r"mean of shape \(256, 2\) and a log variance"),
    "text": ({"encode": lambda x: "latent"}, "returned a str, where a pair"),
    "nan": ({"encode": lambda x: (x * math.nan, x)}, "encode's mean has NaN for 256 of 256 data"),
    "noise": (
        {"encode": lambda x: (torch.randn(len(x), 2), -1 + 0 * x[:, :2])},
        "answers differently",
    ),
    "noise of a Normal": (
        {"encode": lambda x: Normal(torch.randn(len(x), 2), 1.0)},
        "encode answers differently",
    ),
    "noise of a distribution": (
        {"encode": lambda x: MultivariateNormal(torch.randn(len(x), 2), torch.eye(2))},
        "encode answers differently",
    ),
    "noise of a flow": (
        {"encode": lambda x: shifted(x + torch.randn_like(x))},
        "encode answers differently",
    ),
    "noise of a decoder": (
        {"decode": lambda z: nn.functional.dropout(decode(z), 0.5)},
        "decode answers differently .* same latents, .* as dropout",
    ),
    "noise of a decoder's distribution": (
        {
            "decode": lambda z: Normal(decode(z) + torch.randn(len(z), 3), 1.0),
            "likelihood": None,
            "sigma": None,
        },
        "decode answers differently",
    ),
    "fails": (
        {"encode": lambda x: linear(x @ torch.ones(9, 9))},
        r"encode cannot be called with \(256, 3\) float32 on cpu: RuntimeError",
    ),
    "a key": ({"encode": lambda x: {}["k"]}, "encode cannot be called .* KeyError: 'k'"),
    "a division": ({"encode": lambda x: 1 / 0}, "encode .* ZeroDivisionError: division by zero"),
    "an assertion": ({"decode": asserts}, "decode cannot be called .* AssertionError$"),
    "not there": (
        {"encode": lambda x: raises(NotImplementedError("no"))},
        "NotImplementedError: no",
    ),
    "many lines": ({"encode": lambda x: raises(OSError("one\ntwo"))}, "OSError: one$"),
    "device": ({"device": "gpu"}, "device='gpu' cannot be used: RuntimeError: Expected one of cpu"),
    "no such device": ({"device": "cuda:63"}, "device='cuda:63' cannot be used: "),
    "no data on it": ({"device": "meta"}, "device='meta' cannot be used: "),
    "text data": ({"x": ["a", "b"]}, "x, a list, is an array of <U1, where .* of numbers"),
    "no data": ({"x": None}, "x, a NoneType, is an array of object"),
    "uneven": ({"x": [[1.0], [1.0, 2.0]]}, "x, a list, is no array: ValueError"),
    "complex": ({"x": torch.zeros(3, 3, dtype=torch.complex64)}, "x holds torch.complex64"),
    "prior's support": (
        {"prior": Uniform(torch.zeros(2), torch.ones(2))},
        "the prior, a Uniform, has no density at some of the values -.* outside its support",
    ),
    "prior's support, unchecked": (
        {"prior": Uniform(torch.zeros(2), torch.ones(2), validate_args=False)},
        "the prior, a Uniform, has no density at some of the values -.* outside its support",
    ),
    "a support of one's own": (
        {**UNNAMED, "decode": lambda z: Unasked(decode(z), 1.0, validate_args=False)},
        "the support of a Unasked cannot be asked: KeyError: 'support'",
    ),
    "a distribution's support": (
        {**UNNAMED, "decode": lambda z: Bernoulli(logits=decode(z), validate_args=False)},
        "x has values of -.* outside the support of decode's distribution, a Bernoulli",
    ),
    "grey": (
        {
            **UNNAMED,
            "x": torch.rand(50, 3),
            "decode": lambda z: Independent(Bernoulli(logits=decode(z), validate_args=False), 1),
        },
        "a Bernoulli; values between 0 and 1 are taken by likelihood='bernoulli'",
    ),
    "two kinds": (
        {**UNNAMED, "decode": lambda z: Normal(decode(z), 1.0) if len(z) == 256 else z},
        "decode returned a Tensor, where a distribution is expected, as it returned before",
    ),
    "a draw": (
        {"encode": lambda x: Undrawn(torch.Size([len(x), 2]))},
        "encode's distribution, a Undrawn, cannot be drawn from: NotImplementedError",
    ),
    "sigma's kind": ({"sigma": "one"}, "sigma='one' is a text"),
    "samples' kind": ({"samples": 10.5}, "samples must be at least 2, a whole number, not 10.5"),
    "distribution": (
        {"encode": lambda x: Normal(torch.zeros(3), 1.0)},
        r"distribution of shape \(3,\) for 256 data",
    ),
    "decoder's shape": (
        {"decode": lambda z: z},
        r"decode returned \(256, 2\) for 256 latents, where \(256, 3\)",
    ),
    "decoder's nan": ({"decode": lambda z: decode(z) * math.nan}, "decode's answer has NaN"),
    "decoder's kind": ({"decode": lambda z: None}, "decode returned a NoneType"),
    "log odds": (
        {"x": (data() > 0).float(), "likelihood": "bernoulli", "sigma": None},
        "probabilities between 0 and 1; of log odds it is 'bernoulli-logits'",
    ),
    "support": (
        {"likelihood": "bernoulli", "sigma": None},
        "x has values from .* where the Bernoulli likelihood expects 0 and 1",
    ),
    "x": ({"x": NAN}, r"x has NaN or infinite values in 1 of 300 data, the first .* number 7"),
    "one datum": ({"x": data()[:1]}, r"x has the shape \(1, 3\)"),
    "a row": ({"x": data()[0]}, r"x has the shape \(3,\)"),
    "likelihood": ({"likelihood": "gausian"}, "did you mean gaussian"),
    "no sigma": ({"sigma": None}, "needs sigma"),
    "sigma": ({"sigma": -1.0}, "sigma must be positive"),
    "two": ({"log_prob": decode}, "both given"),
    "prior": ({"prior": 3}, "the prior is a int"),
    "prior's shape": ({"prior": Normal(torch.zeros(5), 1.0)}, r"shape \(5,\), and encode gives"),
    "samples": ({"samples": 1}, "samples must be at least 2, a whole number, not 1"),
    "seed": ({"seed": "a"}, "seed must be a whole number, not 'a'"),
    "data's scale": (
        {"encode": lambda x: (x[:, :2], 255 * x[:, :2].abs())},
        "log variances reach .* or the data are on another scale than in training",
    ),
    "batch": ({"batch": 0}, "batch must be at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_in_one_sentence(name: str) -> None:
    given, told = WRONG[name]
    with pytest.raises(ValueError, match=told) as caught:
        gaussian(**({"x": data()} | given))
    assert "\n" not in str(caught.value)


def test_the_cause_of_an_error_is_kept() -> None:
    with pytest.raises(ValueError, match="KeyError") as caught:
        gaussian(data(), encode=lambda x: {}["k"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_errors_in_log_prob_are_told() -> None:
    with pytest.raises(ValueError, match=r"log_prob cannot be called with .* KeyError: 'k'"):
        diagnose(data(), encode=linear, log_prob=lambda x, z: {}["k"])


def test_parameters_of_an_unnamed_likelihood_are_asked_about() -> None:
    with pytest.raises(ValueError, match="name likelihood= bernoulli, bernoulli-logits, gaussian"):
        diagnose(data(), encode=linear, decode=decode)


def test_noise_in_log_prob_is_refused() -> None:
    def log_prob(x: Tensor, z: Tensor) -> Tensor:
        return -(x - decode(z) - torch.randn_like(x)).square().sum(1)

    with pytest.raises(ValueError, match="log_prob answers differently"):
        diagnose(data(), encode=linear, log_prob=log_prob)


def test_a_log_prob_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(\d+, 3\) for \d+ data and latents"):
        diagnose(data(), encode=linear, log_prob=lambda x, z: x - decode(z))


def test_a_decoder_on_another_device_is_named() -> None:
    model = Frozen()
    with pytest.raises(ValueError, match=r"decode is on meta and encode on cpu, where one"):
        diagnose(data(), model, likelihood="gaussian", sigma=1)


def test_a_model_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="a Linear, has neither encode nor encoder"):
        diagnose(data(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="entry 'encod'; did you mean encode"):
        diagnose(data(), {"encod": linear})
    with pytest.raises(ValueError, match="nothing to call"):
        diagnose(data())


def test_a_collapsed_encoder_of_log_variances_slightly_above_zero_is_no_mistake() -> None:
    found = gaussian(data(), encode=lambda x: (0.01 * x[:, :2], 0.02 + 0 * x[:, :2]))
    assert found.label == "collapsed"


def test_numbers_of_the_table_are_those_of_the_units(healthy: Diagnosis) -> None:
    rows = re.findall(r"^ +(\d+) +([\d.]+) ± ([\d.]+) ", str(healthy), re.MULTILINE)
    assert len(rows) == len(healthy.units)
    for index, value, error in rows:
        unit = healthy.units[int(index) - 1]
        assert float(value) == pytest.approx(unit.variance, abs=unit.variance_se / 10)
        assert float(error) == pytest.approx(unit.variance_se, rel=0.05)


def bordering(n: int = 400) -> Diagnosis:
    """Units of posterior means of variance 1 and 0.01, the threshold, and one that is still."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n, 3, generator=generator)
    x = x / x.std(0) * torch.tensor([1.0, 0.1, 0.0])
    return diagnose(x, encode=lambda x: (x, torch.full_like(x, -3.0)), samples=2)


def test_active_units_and_dimensions_have_their_standard_errors() -> None:
    found = bordering()
    assert 0.05 < found.au_se < 0.2
    assert 0.05 < found.active_se < 0.2
    assert found.to_dict()["figures"]["au/z_se"] == found.au_se
    assert re.search(r"^ +AU +0\.\d+ ± 0\.\d+ ", str(found), re.MULTILINE)
    assert re.search(r"<td>AU</td><td>0\.\d+ ± 0\.\d+</td>", found._repr_html_())


def test_the_error_is_zero_where_every_unit_is_far_from_the_threshold(healthy: Diagnosis) -> None:
    assert (healthy.au, healthy.au_se) == (1.0, 0.0)
    assert re.search(r"^ +AU +1\.00 ± 0 ", str(healthy), re.MULTILINE)


def test_the_variance_of_a_unit_has_its_standard_error() -> None:
    unit = bordering().units[0]
    assert unit.variance_se == pytest.approx(unit.variance * (2 / 400) ** 0.5, rel=0.3)
    assert bordering().to_dict()["units"][0]["variance_se"] == unit.variance_se


@pytest.mark.cuda
def test_a_gpu_gives_the_figures_of_the_cpu(cuda: torch.device) -> None:
    model = PlainVAE()
    here = diagnose(digits()[:300], model, likelihood="bernoulli", **FEW)
    there = diagnose(digits()[:300].numpy(), model.to(cuda), likelihood="bernoulli", **FEW)
    for key in ("elbo", "ll", "kl/z"):
        near = here.scalars[f"{key}_se"]
        assert there.scalars[key] == pytest.approx(here.scalars[key], abs=near)
    assert np.isfinite([unit.fisher for unit in there.units]).all()
