"""What every correct evaluation satisfies."""

from __future__ import annotations

import math

__all__ = ["broken_invariants"]

SLACK = 4.0
"""Standard errors by which a Monte-Carlo invariant may be missed."""


def broken_invariants(scalars: dict[str, float], categories: int | None) -> list[str]:
    """What no correct evaluation can show, in words; empty when all is well.

    Args:
        scalars: an evaluation under the names of DESIGN section 10.
        categories: C, or None.

    The mutual information of w is held to the joint KL: in the explicit posterior the KL of w is
    conditional on c, and what w tells of x through c is no part of it.
    """
    rounding = 1e-4
    s = scalars
    half = s.get("ll_half", s["ll"])
    joint = s["kl/joint"] + SLACK * s["kl/joint_se"]
    found: list[tuple[bool, str]] = [
        (s["elbo"] <= half + rounding * abs(s["ll"]), "ELBO exceeds LL"),
        (half <= s["ll"] + rounding * abs(s["ll"]), "LL falls as draws are added"),
        (joint >= -rounding, "the joint KL is negative"),
    ]
    for unit in "wz":
        if f"mi/{unit}" in s:
            spread = SLACK * s[f"mi/{unit}_se"] + rounding
            found += [
                (s[f"mi/{unit}"] >= -spread, f"MI of {unit} is negative"),
                (s[f"mi/{unit}"] <= joint + spread, f"MI of {unit} exceeds the joint KL"),
            ]
    if categories is not None:
        found += [
            (s["mi/c"] >= -rounding, "MI of c is negative"),
            (s["mi/c"] <= s["kl/c"] + rounding, "MI of c exceeds its KL"),
            (s["kl/c"] <= math.log(categories) + rounding, "KL of c exceeds log C"),
        ]
    found += [
        (0 <= value <= 1, f"{name} = {value} is no fraction")
        for name, value in s.items()
        if name.startswith("au/")
    ]
    if "certificate_log10" in s and "min_secant" in s:
        held = s["min_secant"] >= s["certificate"] * (1 - 1e-2) - 1e-5
        found.append((held, "a measured slope is below the certificate"))
    return [text for holds, text in found if not holds]
