"""Networks: Brenier maps and what they are compared with; nothing here knows of VAEs."""

from lidcli.nn.brenier import BrenierMap
from lidcli.nn.certificate import Certificate, MapCertificate
from lidcli.nn.factored import FactoredBrenierMap
from lidcli.nn.icnn import ICNN
from lidcli.nn.injective import InjectiveDecoder, brenier_depth
from lidcli.nn.mlp import MLP, count_parameters
from lidcli.nn.modulus import Modulus, measured_modulus
from lidcli.nn.orthogonal import Rotation

__all__ = [
    "ICNN",
    "MLP",
    "BrenierMap",
    "Certificate",
    "FactoredBrenierMap",
    "InjectiveDecoder",
    "MapCertificate",
    "Modulus",
    "Rotation",
    "brenier_depth",
    "count_parameters",
    "measured_modulus",
]
