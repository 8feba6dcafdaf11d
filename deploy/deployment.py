"""Deployment: what a target will get, said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..hardware_profiles.profile import Profile
from ..models.layers import Connections, weights_of
from ..models.network import Network
from ..models.stimulus import FloatArray
from .energy import SpinnakerUse, estimate_spinnaker
from .findings import Finding


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Neurons or input devices of one kind.

    Attributes
    ----------
    model : str
        The target's name of the model.
    parameters : mapping
        As the target will hold them.
    role : "neurons", "currents", "drives", "spikes" or "bias"
        Neurons of the network, or the devices that carry its input and its biases: currents of the channels, or what
        these drive each neuron of the first layer with, added up beforehand.
    fires : bool
    constant_input : float64 [size], or None
        What each neuron gets in every step besides what arrives through projections (bias and offsets).
    start : float
        The potential that stands for the Network's 0.
    """

    name: str
    size: int
    model: str
    parameters: Mapping[str, Any]
    role: Literal["neurons", "currents", "drives", "spikes", "bias"] = "neurons"
    fires: bool = False
    constant_input: FloatArray | None = None
    start: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """Connections between two populations.

    Attributes
    ----------
    weights : float64 [pre, post], or Sparse
        In the target's unit; `Sparse` where not every neuron is connected with every other.
    form : str
        Of the layer whose connections these are, in words.
    last_delay_ms : float, optional
        Where the same neurons are connected several times over: the longest delay, `delay_ms` being the shortest.
    """

    source: str
    target: str
    weights: Connections
    delay_ms: float
    receptor: int = 0
    form: str = "all to all"
    last_delay_ms: float | None = None

    @property
    def synapses(self) -> int:
        """How many connections that is."""
        return int(self.weights.size)

    @property
    def weight_range(self) -> tuple[float, float]:
        """The lowest and the highest weight."""
        values = weights_of(self.weights)
        return float(np.min(values)), float(np.max(values))


@dataclass(frozen=True, slots=True)
class Window:
    """How one decision passes on the target, in its own time.

    Attributes
    ----------
    step_ms : float
        Target time of one step of the Network.
    resolution_ms : float
        The target's own time step.
    silence_ms : float
        Run before each window with all neurons silenced, so that nothing of the last one arrives in it.
    input_lead_ms : float
        Run after the silence with the input switched on, until the input reaches the neurons.
    lead_steps : int
        Steps of the Network that have passed when the window is open.
    spike_shift : int
        A neuron that fires at the end of the target's step k fires in the Network's step ``k + spike_shift``: the
        Network tests a potential at the start of a step, NEST at the end of the step before.
    read_grid : float
        Output potentials are rounded to multiples of this, far above rounding noise, so that outputs that are equal in
        the reference are equal on the target. 0: not rounded.
    latency_ms : float
        From an observation to its answer, where the target itself takes longer than the window.
    """

    step_ms: float
    resolution_ms: float
    silence_ms: float = 0.0
    input_lead_ms: float = 0.0
    lead_steps: int = 0
    spike_shift: int = 0
    read_grid: float = 0.0
    latency_ms: float = 0.0

    def lasts_ms(self, steps: int) -> float:
        """Target time of a decision of so many steps, until its answer is there."""
        return max(steps * self.step_ms, self.latency_ms)


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """The frozen result of mapping a Network under a Profile.

    Attributes
    ----------
    recipe : str
        How the mapping works, in one sentence.
    exact : bool
        Whether the target decides as the reference does, up to rounding.
    takes : mapping
        What it takes of a machine, by the name of the resource: numbers or text.
    use : SpinnakerUse, optional
        Of a SpiNNaker machine, by one decision; for the estimate of its energy.
    """

    network: Network
    profile: Profile
    recipe: str
    exact: bool
    window: Window
    populations: tuple[Population, ...] = ()
    projections: tuple[Projection, ...] = ()
    findings: tuple[Finding, ...] = ()
    takes: Mapping[str, float | str] = field(default_factory=dict)
    use: SpinnakerUse | None = None

    def population(self, name: str) -> Population:
        """The population called `name`."""
        return next(population for population in self.populations if population.name == name)

    @property
    def neurons(self) -> int:
        """Neurons on the target."""
        return sum(population.size for population in self.populations if population.role == "neurons")

    @property
    def synapses(self) -> int:
        """Connections on the target."""
        return sum(projection.synapses for projection in self.projections)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        return {
            "network": {"name": self.network.name, "hash": self.network.content_hash, "steps": self.network.steps},
            "profile": self.profile.name,
            "target": self.profile.target,
            "recipe": self.recipe,
            "exact": self.exact,
            "neurons": self.neurons,
            "synapses": self.synapses,
            "takes": dict(self.takes),
            "energy_per_decision": None if self.use is None else estimate_spinnaker(self.use).as_dict(),
            "window": {
                "step_ms": self.window.step_ms,
                "resolution_ms": self.window.resolution_ms,
                "silence_ms": self.window.silence_ms,
                "input_lead_ms": self.window.input_lead_ms,
                "run_ms": (self.network.steps - self.window.lead_steps) * self.window.step_ms,
                "read_at_step": self.network.steps,
            },
            "populations": [
                {
                    "name": p.name,
                    "size": p.size,
                    "model": p.model,
                    "role": p.role,
                    "fires": p.fires,
                    "start": p.start,
                    "parameters": dict(p.parameters),
                }
                for p in self.populations
            ],
            "projections": [
                {
                    "source": p.source,
                    "target": p.target,
                    "form": p.form,
                    "synapses": p.synapses,
                    "delay_ms": p.delay_ms,
                    "last_delay_ms": p.last_delay_ms,
                    "receptor": p.receptor,
                    "weight_min": p.weight_range[0],
                    "weight_max": p.weight_range[1],
                }
                for p in self.projections
            ],
            "findings": [
                {"severity": f.severity, "message": f.message, "advice": f.advice, "layer": f.layer, "neuron": f.neuron}
                for f in self.findings
            ],
        }
