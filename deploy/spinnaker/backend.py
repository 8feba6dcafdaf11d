"""The SpiNNaker targets: a board, a virtual board, and the twin of what they compute."""

from __future__ import annotations

from ...hardware_profiles.profile import Profile
from ...models.network import Network
from ..backend import Session
from ..deployment import Deployment
from ..findings import Finding
from . import circuit_plan, circuit_preflight
from .circuit_twin import CircuitTwinSession

MAPPINGS = ("decision_circuit", "pynn")


class SpinnakerTwinBackend:
    """What a board computes, to the bit, in this process."""

    cannot: tuple[tuple[str, str], ...] = ()

    def preflight(self, network: Network, profile: Profile) -> list[Finding]:
        """What speaks against it; see `circuit_preflight` and `neurons`."""
        if profile.mapping == "decision_circuit":
            findings = circuit_preflight.preflight(network, profile)
            if any(finding.severity == "error" for finding in findings):
                return findings
            return findings + circuit_plan.budget_findings(network, profile)
        if profile.mapping == "pynn":
            from . import neurons

            return neurons.preflight(network, profile)
        mappings = " or ".join(f"'{mapping}'" for mapping in MAPPINGS)
        return [Finding("error", f"Mapping '{profile.mapping}' is none of SpiNNaker's.", f"Use {mappings}.")]

    def plan(self, network: Network, profile: Profile) -> Deployment:
        """What the machine will get."""
        if profile.mapping == "decision_circuit":
            return circuit_plan.plan(network, profile)
        from . import neurons

        return neurons.plan(network, profile)

    def open(self, deployment: Deployment, seed: int) -> Session:
        """Open the twin; it draws no random numbers, so `seed` has no effect."""
        return self.twin(deployment)

    def twin(self, deployment: Deployment) -> Session:
        """What the deployment computes, in this process."""
        if deployment.profile.mapping == "decision_circuit":
            return CircuitTwinSession(deployment)
        from .neuron_twin import NeuronTwinSession

        return NeuronTwinSession(deployment)


class SpinnakerBackend(SpinnakerTwinBackend):
    """A board, or a virtual board, through sPyNNaker."""

    cannot: tuple[tuple[str, str], ...] = (
        ("runs in parts", "a decision passes on the machine as a whole; the twin can be stopped at every step"),
        ("potential traces", "a machine sends spikes, and no potentials; the twin has them"),
    )

    def open(self, deployment: Deployment, seed: int) -> Session:
        """Take the machine and load the deployment; `seed` has no effect: nothing on it is random."""
        if deployment.profile.mapping == "decision_circuit":
            from .circuit_session import CircuitSession

            return CircuitSession(deployment)
        from .neuron_session import NeuronSession

        return NeuronSession(deployment)
