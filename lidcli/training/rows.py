"""The trained numbers of several runs as the rows of one matrix, and Adam on all rows at once.

Shape suffixes: R runs, P numbers that are trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Rows"]


class Rows:
    """Models of one architecture whose numbers, and Adam's, become views of matrices (R, P).

    The columns are in the order of the optimisers' groups. A row has a learning rate and a number
    of steps of its own.

    Args:
        models: at least one, all of one architecture.
        optimisers: of each, with the same groups and settings; every group has its `factor`.

    References:
        Kingma and Ba, "Adam: a method for stochastic optimization" (ICLR 2015).

    Example:
        >>> nets = [nn.Linear(2, 1), nn.Linear(2, 1)]
        >>> adams = [torch.optim.Adam([{"params": n.parameters(), "factor": 1.0}]) for n in nets]
        >>> rows = Rows(nets, adams)
        >>> rows.descend(torch.ones(2, 3), [0.5, 0.0])
        >>> rows.steps.tolist(), rows.leaves["weight"].shape
        ([1.0, 1.0], torch.Size([2, 1, 2]))
    """

    def __init__(self, models: Sequence[nn.Module], optimisers: Sequence[torch.optim.Adam]) -> None:
        self.optimisers = list(optimisers)
        groups = [optimiser.param_groups for optimiser in optimisers]
        self.parameters = [[p for group in own for p in group["params"]] for own in groups]
        self.values = self._matrix("value")
        self.first, self.second = self._matrix("exp_avg"), self._matrix("exp_avg_sq")
        self.steps = torch.tensor([self._steps(run) for run in range(len(models))])
        self.bounds = _bounds(self.parameters[0])
        self._columns = torch.tensor(
            [g["factor"] for g in groups[0] for p in g["params"] for _ in range(p.numel())],
            dtype=torch.float64,
            device=self.values.device,
        )
        self._counts: list[Tensor] = []
        """The steps of every parameter of every run, as its optimiser counts them."""
        self._hand_out()
        names = {id(p): name for name, p in models[0].named_parameters()}
        self.leaves = {
            names[id(p)]: self._place(self.values, p, bounds).requires_grad_()
            for p, bounds in zip(self.parameters[0], self.bounds, strict=True)
        }

    def _matrix(self, what: str) -> Tensor:
        """Values, or a state of Adam's, zeros where there is none yet, (R, P)."""
        rows = []
        for optimiser, own in zip(self.optimisers, self.parameters, strict=True):
            found = (
                p.detach() if what == "value" else optimiser.state[p].get(what, torch.zeros_like(p))
                for p in own
            )
            rows.append(torch.cat([tensor.reshape(-1) for tensor in found]))
        return torch.stack(rows)

    def _steps(self, run: int) -> float:
        state = self.optimisers[run].state[self.parameters[run][0]]
        return float(state.get("step", 0.0))

    def _place(self, matrix: Tensor, p: Tensor, bounds: tuple[int, int]) -> Tensor:
        """The columns of a parameter, (R, *shape)."""
        return matrix[:, slice(*bounds)].view(len(matrix), *p.shape)

    def _hand_out(self) -> None:
        """Let every model and optimiser hold views of its row."""
        for run, (optimiser, own) in enumerate(zip(self.optimisers, self.parameters, strict=True)):
            for p, bounds in zip(own, self.bounds, strict=True):
                self._counts.append(self.steps[run].clone())
                p.data, p.grad = self._place(self.values, p, bounds)[run], None
                optimiser.state[p] = {
                    "step": self._counts[-1],
                    "exp_avg": self._place(self.first, p, bounds)[run],
                    "exp_avg_sq": self._place(self.second, p, bounds)[run],
                }

    def gradient(self, total: Tensor) -> Tensor:
        """Gradients (R, P) of a sum over the runs of what each computed from its leaves."""
        leaves = list(self.leaves.values())
        found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.reshape(len(self.values), -1) for gradient in found], dim=1)

    def lend(self, gradient: Tensor, run: int) -> None:
        """Show a run's gradient to its own model, for an explanation."""
        for p, bounds in zip(self.parameters[run], self.bounds, strict=True):
            p.grad = self._place(gradient, p, bounds)[run]

    @torch.no_grad()
    def descend(self, gradient: Tensor, rates: Sequence[float]) -> None:
        """A step of Adam for every run.

        Args:
            gradient: (R, P); changed.
            rates: learning rate of each run, before the groups' factors.
        """
        group = self.optimisers[0].param_groups[0]
        beta1, beta2 = group["betas"]
        if group["weight_decay"]:
            gradient.add_(self.values, alpha=group["weight_decay"])
        self.steps += 1
        torch._foreach_add_(self._counts, 1)
        self.first.lerp_(gradient, 1 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        done = self.steps.double()
        size = (torch.tensor(rates, dtype=torch.float64) / (1 - beta1**done)).to(gradient.device)
        scale = (1 - beta2**done).sqrt()[:, None].to(gradient)
        below = self.second.sqrt().div_(scale).add_(group["eps"])
        rate = (size[:, None] * self._columns).to(gradient.dtype)
        self.values.sub_(self.first.div(below).mul_(rate))


def _bounds(parameters: Sequence[Tensor]) -> list[tuple[int, int]]:
    """First and last column of each parameter."""
    found, start = [], 0
    for p in parameters:
        found.append((start, start + p.numel()))
        start += p.numel()
    return found
