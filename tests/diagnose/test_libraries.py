"""VAEs of other libraries, trained by these, are diagnosed rightly; skipped where they are not."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from diagnose.models import digits
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from lidcli.diagnose import diagnose

LATENT = 6
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def pythae_model(name: str, tmp_path: Any, **settings: Any) -> Any:
    """One of pythae's models, trained by its own pipeline."""
    models = pytest.importorskip("pythae.models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pythae.pipelines import TrainingPipeline
        from pythae.trainers import BaseTrainerConfig

        config = getattr(models, f"{name}Config")(
            input_dim=(1, 8, 8), latent_dim=LATENT, reconstruction_loss="bce", **settings
        )
        model = getattr(models, name)(config)
        training = BaseTrainerConfig(
            output_dir=str(tmp_path),
            num_epochs=15,
            learning_rate=3e-3,
            per_device_train_batch_size=100,
            no_cuda=True,
        )
        TrainingPipeline(training_config=training, model=model)(train_data=images())
    return model.eval()


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return digits().bernoulli(generator=generator).view(-1, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "settings", "label"),
    [("VAE", {}, "informative"), ("BetaVAE", {"beta": 30.0}, "collapsed")],
)
def test_a_vae_that_pythae_trained(
    name: str, settings: dict[str, float], label: str, tmp_path: Any
) -> None:
    """The verdict is right; KL and LL are pythae's own."""
    model, x = pythae_model(name, tmp_path, **settings), images()
    found = diagnose(x, model, likelihood="bernoulli", samples=50)
    assert found.label == label
    with torch.no_grad():
        own = model({"data": x})
        assert abs(found.kl.value - own.reg_loss.mean()) < 3 * found.kl.se
        ours = diagnose(x[:300], model, likelihood="bernoulli", samples=50).ll
        assert ours is not None
        assert abs(ours.value - model.get_nll(x[:300], n_samples=50, batch_size=50)) < 3 * ours.se


class Encoder(nn.Module):
    """As in Pyro's tutorial of a VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act = nn.Linear(64, 100), nn.Softplus()
        self.fc21, self.fc22 = nn.Linear(100, LATENT), nn.Linear(100, LATENT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.act(self.fc1(x))
        return self.fc21(hidden), self.fc22(hidden).exp()


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(LATENT, 100), nn.Softplus(), nn.Linear(100, 64))

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.net(z))


def pyro_parts(weight: float) -> tuple[Encoder, Decoder]:
    """A VAE trained by Pyro's SVI, its KL scaled by a weight."""
    pyro = pytest.importorskip("pyro")
    from pyro import distributions as dist
    from pyro import poutine
    from pyro.infer import SVI, Trace_ELBO
    from pyro.optim import Adam

    pyro.clear_param_store()
    encoder, decoder = Encoder(), Decoder()
    bits = images().flatten(1)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=weight):
                z = pyro.sample("latent", dist.Normal(x.new_zeros(len(x), LATENT), 1).to_event(1))
            pyro.sample("obs", dist.Bernoulli(decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)), poutine.scale(scale=weight):
            pyro.sample("latent", dist.Normal(*encoder(x)).to_event(1))

    svi = SVI(model, guide, Adam({"lr": 3e-3}), loss=Trace_ELBO())
    for _ in range(15):
        for rows in torch.randperm(len(bits)).split(100):
            svi.step(bits[rows])
    return encoder, decoder


@pytest.mark.parametrize(("weight", "label"), [(1.0, "informative"), (30.0, "collapsed")])
def test_a_vae_that_pyro_trained(weight: float, label: str) -> None:
    encoder, decoder = pyro_parts(weight)

    def encode(x: Tensor) -> Distribution:
        return Independent(Normal(*encoder(x)), 1)

    def decode(z: Tensor) -> Distribution:
        return Independent(Bernoulli(decoder(z)), 1)

    found = diagnose(images().flatten(1), encode=encode, decode=decode, samples=50)
    assert found.label == label
    assert found.ll is not None
