"""Has this VAE collapsed? The measurements of `lid evaluate` for a model of anybody's.

Example:
    >>> import torch
    >>> from lidcli.diagnose import diagnose
    >>> found = diagnose(torch.randn(200, 3), encode=lambda x: (x[:, :2], -3 + 0 * x[:, :2]))
    >>> found.label, round(found.au, 1)
    ('informative', 1.0)
"""

from lidcli.diagnose.measure import diagnose
from lidcli.diagnose.result import Diagnosis, Unit

__all__ = ["Diagnosis", "Unit", "diagnose"]
