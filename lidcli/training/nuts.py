"""The procedure of a classical model whose posterior NUTS draws, beside the exact one."""

from __future__ import annotations

from lidcli.config import sections
from lidcli.config.run import RunConfig
from lidcli.data.dataset import Dataset
from lidcli.inference import nuts
from lidcli.training.exact import Exact
from lidcli.training.procedure import Job

__all__ = ["NUTS"]


class NUTS(Exact):
    """Hamiltonian Monte Carlo on a fitted classical model.

    Args:
        settings: section inference of `config`.
        config: of a PPCA or a Gaussian mixture model.
        data: whose training part is fitted.

    Raises:
        ConfigError: numpyro is not installed, or settings that do not go together.
    """

    def __init__(self, settings: sections.NUTS, config: RunConfig, data: Dataset) -> None:
        nuts.require()
        super().__init__(settings, config, data)
        self.nuts = settings

    def infer(self, job: Job) -> None:
        """Draw, and store moments, draws for the figures and what they say of convergence."""
        scalars, arrays, said = self.fitted.sample(self.nuts, self.config.seed)
        tolerated = nuts.DIVERGENT * self.nuts.chains * self.nuts.draws
        converged = scalars["nuts/rhat"] < nuts.RHAT and scalars["nuts/divergences"] <= tolerated
        text = (
            f"NUTS drew {said}: {scalars['nuts/chains']:.0f} chains of"
            f" {scalars['nuts/draws']:.0f}, R-hat {scalars['nuts/rhat']:.3f}, ESS"
            f" {scalars['nuts/ess']:.0f}, {scalars['nuts/divergences']:.0f} divergences"
        )
        if not converged:
            text = (
                f"warning: the chains did not converge (R-hat from {nuts.RHAT}, or divergences in"
                f" over {nuts.DIVERGENT:.1%}), their draws are no sample of the posterior. {text}"
            )
        job.run.update(
            provenance={"converged": converged, "nuts": said, "inference_notes": [text]},
            evaluation=(self.config.evaluate.split, scalars),
            arrays=arrays,
        )
