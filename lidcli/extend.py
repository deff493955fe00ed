"""What a kind of your own derives from: settings as fields, and a method `build`.

An entry of a file named with `-c` says `use: package.module:name` in place of a kind, and gives
the settings that your class declares. Only code named on the command line itself is imported:
by such a file, or by `--set`. docs/EXTEND.md has complete examples.

Example:
    >>> class Ramp(Decoder):
    ...     slope: float = 2.0
    ...
    ...     def build(self, latent, width):
    ...         return lambda z: self.slope * z
    >>> Ramp(kind="mine:Ramp", slope=3.0).build(1, 1)(2.0)
    6.0
"""

from lidcli.config.kinds import Part, Section
from lidcli.config.sections import (
    Amortized,
    BrenierDecoder,
    Classical,
    Continuous,
    Data,
    Decoder,
    Encoder,
    Evaluate,
    Image,
    Inference,
    Likelihood,
    LSTMDecoder,
    LSTMEncoder,
    Mixture,
    MLPDecoder,
    MLPEncoder,
    Model,
    Points,
    ShearedDecoder,
    SkipDecoder,
    Text,
    Training,
)
from lidcli.metrics.own import metric
from lidcli.metrics.quantity import Quantity

__all__ = [
    "Amortized",
    "BrenierDecoder",
    "Classical",
    "Continuous",
    "Data",
    "Decoder",
    "Encoder",
    "Evaluate",
    "Image",
    "Inference",
    "LSTMDecoder",
    "LSTMEncoder",
    "Likelihood",
    "MLPDecoder",
    "MLPEncoder",
    "Mixture",
    "Model",
    "Part",
    "Points",
    "Quantity",
    "Section",
    "ShearedDecoder",
    "SkipDecoder",
    "Text",
    "Training",
    "metric",
]
