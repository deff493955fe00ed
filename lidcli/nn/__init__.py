"""Networks: Brenier maps and what they are compared with, of use without a VAE too."""

from lidcli.nn.brenier import BrenierMap
from lidcli.nn.certificate import Certificate, MapCertificate, certify
from lidcli.nn.factored import FactoredBrenierMap
from lidcli.nn.icnn import ICNN, Activation, Backward
from lidcli.nn.injective import InjectiveDecoder, brenier_depth
from lidcli.nn.isometry import Isometry
from lidcli.nn.mlp import MLP, SkipMLP, count_parameters
from lidcli.nn.modulus import Modulus, descended_modulus, measured_modulus
from lidcli.nn.orthogonal import Rotation
from lidcli.nn.sheared import ShearedMLP

__all__ = [
    "ICNN",
    "MLP",
    "Activation",
    "Backward",
    "BrenierMap",
    "Certificate",
    "FactoredBrenierMap",
    "InjectiveDecoder",
    "Isometry",
    "MapCertificate",
    "Modulus",
    "Rotation",
    "ShearedMLP",
    "SkipMLP",
    "brenier_depth",
    "certify",
    "count_parameters",
    "descended_modulus",
    "measured_modulus",
]
