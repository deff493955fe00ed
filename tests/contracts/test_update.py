"""What every update promises (lidcli.training.updates.Update), with every optimiser."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from contracts.cases import CASES, Case, build_case, name_of

from lidcli.config.run import RunConfig
from lidcli.config.sections import KINDS
from lidcli.errors import DivergedError
from lidcli.models.batch import Batch, DenseBatch
from lidcli.models.latent import LatentModel
from lidcli.store.tensors import load_tree, save_tree
from lidcli.training.guard import Guard
from lidcli.training.sources import split_of
from lidcli.training.updates import Update


def pairs() -> Iterator[Any]:
    """Every inference that trains, with every optimiser."""
    for inference, optimiser in itertools.product(CASES["inference"], CASES["train"]):
        kind: Any = KINDS["inference"][inference.kind]
        if "train" in kind.needs:
            settings = {"optimiser": optimiser.kind, "batch_size": 8, **optimiser.settings}
            case = replace(inference, beside={**inference.beside, "train": settings})
            yield pytest.param(case, id=f"{name_of(inference)}-{name_of(optimiser)}")


@dataclass
class Training:
    """A model, its update and a source of batches, as the loop has them."""

    config: RunConfig
    model: LatentModel
    source: Any
    update: Update

    @classmethod
    def of(cls, case: Case) -> Training:
        """A fresh one, the same each time."""
        made, data, config = build_case("inference", case)
        model = made.model.train()
        assert config.train is not None
        source = split_of(data, "train", config.train.batch_size)
        guard = Guard(torch.device("cpu"))
        update = config.inference.update(config.train, model, source.batches, guard)
        return cls(config, model, source, update)

    def batch(self, k: int) -> Batch:
        """The k-th batch."""
        x: Batch = self.source.draw(torch.Generator().manual_seed(k))
        return DenseBatch(x.x.double()) if isinstance(x, DenseBatch) else x

    def more(self) -> Batch:
        """A further batch, by torch's own generator."""
        return self.batch(int(torch.randint(1000, ())))

    def steps(self, first: int, last: int) -> list[float]:
        """Losses of some steps, with an epoch's validation after every second."""
        losses = []
        for k in range(first, last):
            losses.append(self.update.step(self.batch(k), k, self.more).loss.item())
            if k % 2:
                self.update.validated(lambda: 1.0)
        return losses


@pytest.fixture(params=pairs())
def make(request: pytest.FixtureRequest) -> Callable[[], Training]:
    """Makes the same training again and again."""
    return lambda: Training.of(request.param)


def weights(training: Training) -> dict[str, Any]:
    return copy.deepcopy(training.model.state_dict())


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_step_tells_the_bound_and_changes_decoder_and_encoder(
    make: Callable[[], Training],
) -> None:
    training = make()
    before = weights(training)
    result = training.update.step(training.batch(0), 0, training.more)
    assert all(part.shape == () and part.isfinite() for part in result)
    assert torch.equal(result.elbo, result.reconstruction - result.kl)
    after = training.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("observation.decoder") for name in moved)
    assert any(name.startswith("posterior") for name in moved) or not training.model.latent
    fixed = set(before) - dict(training.model.named_parameters()).keys()
    assert not moved & fixed, "buffers are no parameters"


def test_steps_are_a_function_of_the_seed(make: Callable[[], Training]) -> None:
    found = []
    for _ in range(2):
        training = make()
        torch.manual_seed(5)
        found.append((training.steps(0, 4), weights(training)))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_a_restored_update_goes_on_in_the_same_bits(
    make: Callable[[], Training], tmp_path: Path
) -> None:
    first = make()
    first.steps(0, 3)
    state = {"model": first.model.state_dict(), "update": first.update.state()}
    with h5py.File(tmp_path / "state.h5", "w") as file:
        save_tree(file, state)
    generator = torch.get_rng_state()
    losses = first.steps(3, 6)
    again = make()
    again.steps(0, 1)
    with h5py.File(tmp_path / "state.h5") as file:
        kept = load_tree(file)
    again.model.load_state_dict(kept["model"])
    again.update.restore(kept["update"])
    torch.set_rng_state(generator)
    assert again.steps(3, 6) == losses
    assert same(weights(again), weights(first))


def test_a_value_that_is_not_finite_stops_before_it_reaches_the_weights(
    make: Callable[[], Training],
) -> None:
    training = make()
    training.steps(0, 1)
    parameter = next(training.model.observation.decoder.parameters())
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nan
    before = weights(training)
    with pytest.raises(DivergedError, match="Step 7"):
        training.update.step(training.batch(1), 7, training.more)
    after = training.model.state_dict()
    assert all(torch.equal(before[n].nan_to_num(), after[n].nan_to_num()) for n in before)


def test_training_raises_the_bound(make: Callable[[], Training]) -> None:
    training = make()
    losses = training.steps(0, 60)
    assert sum(losses[-10:]) < sum(losses[:10])


def test_semi_amortized_steps_are_amortized_ones_for_as_long_as_is_said() -> None:
    def training(kind: str, **settings: Any) -> Training:
        beside = {"model": {"latent": 1}, "train": {"optimiser": "adam", "batch_size": 8}}
        return Training.of(Case(kind, {"hidden": 8, **settings}, beside))

    def loss(training: Training, step: int) -> float:
        torch.manual_seed(step)
        return training.update.step(training.batch(step), step, training.more).loss.item()

    late = training("semi-amortized", steps=2, amortized_epochs=1)
    always = training("semi-amortized", steps=2)
    plain = training("amortized")
    assert loss(late, 0) == loss(plain, 0) != loss(always, 0)
    refined = late.source.batches
    assert loss(late, refined) != loss(plain, refined)
