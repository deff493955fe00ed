"""VAEs that nobody here would write otherwise: plain PyTorch, in the style of its examples."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F


@cache
def digits() -> Tensor:
    """1,797 images of 64 grey values between 0 and 1."""
    return torch.tensor(load_digits().data / 16, dtype=torch.float32)


class PlainVAE(nn.Module):
    """Two linear layers on either side, a sigmoid at the end, dropout if asked."""

    def __init__(self, latent: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.drop = nn.Linear(64, 100), nn.Dropout(dropout)
        self.fc21, self.fc22 = nn.Linear(100, latent), nn.Linear(100, latent)
        self.fc3, self.fc4 = nn.Linear(latent, 100), nn.Linear(100, 64)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.drop(F.relu(self.fc1(x)))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return self.decode(z), mean, log_variance


@cache
def trained(beta: float, epochs: int) -> PlainVAE:
    """A VAE, trained on the digits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlainVAE()
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(digits())).split(100):
                x = digits()[rows]
                fit, mean, log_variance = model(x)
                loss = F.binary_cross_entropy(fit, x, reduction="sum")
                kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
                optimiser.zero_grad()
                (loss + beta * kl).backward()
                optimiser.step()
    return model
