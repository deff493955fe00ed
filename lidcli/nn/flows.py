"""Conditional RealNVP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from zuko.flows.coupling import GeneralCouplingTransform

__all__ = ["ConditionalRealNVP"]


class ConditionalRealNVP(nn.Module):
    """Affine couplings that move one half of the coordinates, then the other, given a context.

    Args:
        features: coordinates M; with M = 1 there are no halves, and the map is the identity.
        context: size of the context.
        transforms: couplings, at least 0; two of them move every coordinate.
        hidden: units of each of the two hidden layers of a coupling's network.

    References:
        Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP" (ICLR 2017).

    Example:
        >>> flow = ConditionalRealNVP(2, context=3, transforms=2, hidden=16)
        >>> w, log_det = flow(torch.randn(7, 2), torch.randn(7, 3))
        >>> w.shape, log_det.shape
        (torch.Size([7, 2]), torch.Size([7]))
    """

    def __init__(self, features: int, context: int, transforms: int, hidden: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList()
        for i in range(transforms if features > 1 else 0):
            coupling = GeneralCouplingTransform(
                features,
                context,
                mask=torch.arange(features) % 2 == i % 2,
                hidden_features=(hidden, hidden),
                activation=nn.GELU,
            )
            head = coupling.hyper[-1]
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
            self.couplings.append(coupling)

    def forward(self, base: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map base points (..., M), given contexts that broadcast, to w and log |det dw/dbase|."""
        log_det = base.new_zeros(())
        for coupling in self.couplings:
            base, step = coupling(context).call_and_ladj(base)
            log_det = log_det + step
        return base, log_det.expand(base.shape[:-1])

    def inverse(self, w: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map points w (..., M) back to the base, with log |det dbase/dw|.

        A coupling's network is asked once; its transform's own inverse asks it twice. What `inv`
        gives refers to its transform and that to it: a cycle, whose tensors would stay until
        garbage is looked for.
        """
        log_det = w.new_zeros(())
        for coupling in reversed(self.couplings):
            transform = coupling(context)
            kept, moved = transform.split(w)
            affine = transform.meta(kept)
            start = affine.base._inverse(moved)
            log_det = log_det - affine.log_abs_det_jacobian(start, moved)
            w = transform.merge(kept, start, w.shape)
        return w, log_det.expand(w.shape[:-1])
