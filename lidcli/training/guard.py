"""Stops a run at the first value that is not finite, and says where it came from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lidcli.errors import DivergedError
from lidcli.inference.objective import Objective

__all__ = ["Guard"]

CUDA_INTERVAL = 50
"""Steps between checks on a GPU, where each one waits for the device."""


class Guard:
    """Watches the loss and the gradient norm of every step.

    On a CPU a bad step is caught before it reaches the weights; on a GPU the flag is read every
    50 steps and before every checkpoint, so that no bad weights are saved.
    """

    def __init__(self, device: torch.device) -> None:
        self._immediate = device.type == "cpu"
        self._bad = torch.zeros((), dtype=torch.bool, device=device)

    def watch(self, step: int, result: Objective, norm: Tensor, model: nn.Module) -> None:
        """Note one step's loss and gradient norm.

        Raises:
            DivergedError: one of them is not finite; names the step, the term and the tensor.
        """
        if self._immediate:
            if not torch.isfinite(result.loss + norm):
                raise DivergedError(_explain(step, result, model))
            return
        self._bad |= ~torch.isfinite(result.loss + norm)
        if step % CUDA_INTERVAL == 0:
            self.flush(step, model)

    def flush(self, step: int, model: nn.Module) -> None:
        """Read the flag of the steps not read yet, and look at the weights they left.

        Raises:
            DivergedError: one of them was not finite.
        """
        if not self._immediate and bool(self._bad):
            tensor = _first_bad(model)
            raise DivergedError(
                f"Step {step}, or one of the {CUDA_INTERVAL} before it: a value is not finite"
                f"{tensor}. What was saved before is kept; try a smaller learning rate."
            )
        for name, parameter in model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise DivergedError(
                    f"Step {step} left weights that are not finite (parameter {name})."
                    " What was saved before is kept; try a smaller learning rate."
                )


def _explain(step: int, result: Objective, model: nn.Module) -> str:
    names = [
        name
        for name, value in (("reconstruction", result.reconstruction), ("kl", result.kl))
        if not torch.isfinite(value)
    ]
    what = f"the {' and the '.join(names)} term" if names else "the gradient"
    verb = "are" if len(names) > 1 else "is"
    return (
        f"Step {step}: {what} {verb} not finite{_first_bad(model)}."
        " What was saved before is kept; try a smaller learning rate."
    )


def _first_bad(model: nn.Module) -> str:
    """The first parameter that is not finite, or whose gradient is not."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f" (parameter {name})"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f" (gradient of {name})"
    return ""
