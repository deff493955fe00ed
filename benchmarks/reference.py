"""What the closed form is measured against: the gradient of the potential by backpropagation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lidcli.nn import ICNN, MLP, BrenierMap, InjectiveDecoder, Rotation, count_parameters


class DoubleBackpropagation(nn.Module):
    """A Brenier map's twin: a gradient call inside the forward pass, the padding materialised."""

    def __init__(self, g: BrenierMap) -> None:
        super().__init__()
        phi = g.icnn
        self.dim, self.active, self.epsilon = g.dim, g.active, g.inverse_lipschitz
        self.icnn = ICNN(
            g.dim, phi.hidden, phi.layers, activation=phi.activation, slope=phi.slope
        ).to(phi.log_gain.dtype)
        self.icnn.load_state_dict(phi.state_dict())

    def forward(self, u: Tensor) -> Tensor:
        """The same (N, K) -> (N, D) as the map it was made from."""
        x = F.pad(u, (0, self.dim - self.active))
        if not x.requires_grad:
            x.requires_grad_()
        value = self.icnn(x) + self.epsilon / 2 * x.square().sum(1)
        return torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def double_decoder(f: InjectiveDecoder) -> nn.Sequential:
    """The same decoder as f, every map by double backpropagation."""
    stages: list[nn.Module] = []
    for stage in f.stages():
        if isinstance(stage, BrenierMap):
            stages.append(DoubleBackpropagation(stage))
        else:
            assert isinstance(stage, Rotation)
            stages.append(stage)
    return nn.Sequential(*stages)


def perceptron_of_equal_size(f: InjectiveDecoder, layers: int) -> MLP:
    """An MLP of as many affine stages whose width brings its parameter count nearest f's."""
    target = count_parameters(f)
    low, high = 1, 20_000
    while low < high:
        middle = (low + high) // 2
        hidden = middle * (f.latent + f.out + layers) + (layers - 2) * middle**2 + f.out
        low, high = (middle + 1, high) if hidden < target else (low, middle)
    return MLP(f.latent, f.out, low, layers)
