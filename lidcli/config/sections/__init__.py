"""The settings of every kind of every section."""

from __future__ import annotations

from lidcli.config.kinds import Section
from lidcli.config.sections.data import DATA, Classical, Data, Image, Points, Text
from lidcli.config.sections.decoders import (
    DECODERS,
    BrenierDecoder,
    BrenierLSTMDecoder,
    Decoder,
    LSTMDecoder,
    MLPDecoder,
    ShearedDecoder,
    SkipDecoder,
    SkipLSTMDecoder,
    brenier_hidden_layers,
)
from lidcli.config.sections.inference import (
    INFERENCES,
    NUTS,
    Amortized,
    Direct,
    Exact,
    Inference,
    Lagging,
    SemiAmortized,
)
from lidcli.config.sections.models import (
    GMM,
    MODELS,
    PPCA,
    Continuous,
    Language,
    Mixture,
    Model,
    Sequential,
    TwoClusters,
)
from lidcli.config.sections.networks import (
    ENCODERS,
    LIKELIHOODS,
    Bernoulli,
    Encoder,
    Gaussian,
    Likelihood,
    LSTMEncoder,
    MLPEncoder,
)
from lidcli.config.sections.training import TRAININGS, Adam, Evaluate, RMSprop, Runtime, Training

__all__ = [
    "DATA",
    "DECODERS",
    "ENCODERS",
    "GMM",
    "INFERENCES",
    "KINDS",
    "LIKELIHOODS",
    "MODELS",
    "NUTS",
    "PPCA",
    "TRAININGS",
    "Adam",
    "Amortized",
    "Bernoulli",
    "BrenierDecoder",
    "BrenierLSTMDecoder",
    "Classical",
    "Continuous",
    "Data",
    "Decoder",
    "Direct",
    "Encoder",
    "Evaluate",
    "Exact",
    "Gaussian",
    "Image",
    "Inference",
    "LSTMDecoder",
    "LSTMEncoder",
    "Lagging",
    "Language",
    "Likelihood",
    "MLPDecoder",
    "MLPEncoder",
    "Mixture",
    "Model",
    "Points",
    "RMSprop",
    "Runtime",
    "Section",
    "SemiAmortized",
    "Sequential",
    "ShearedDecoder",
    "SkipDecoder",
    "SkipLSTMDecoder",
    "Text",
    "Training",
    "TwoClusters",
    "brenier_hidden_layers",
]

KINDS = {
    kinds.section: kinds
    for kinds in (MODELS, DECODERS, LIKELIHOODS, ENCODERS, INFERENCES, TRAININGS, DATA)
}
"""The sections that come in kinds, by key."""
