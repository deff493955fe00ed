"""What is not finite is never saved."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lidcli.errors import DivergedError
from lidcli.training.guard import Guard


def test_weights_that_the_last_step_left_not_finite_are_named_before_they_are_saved() -> None:
    model = nn.Linear(2, 1)
    guard = Guard(torch.device("cpu"))
    guard.flush(3, model)
    nn.init.constant_(model.bias, math.nan)
    with pytest.raises(DivergedError, match=r"Step 3 left weights .* \(parameter bias\)"):
        guard.flush(3, model)
