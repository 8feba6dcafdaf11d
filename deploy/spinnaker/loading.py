"""Decision circuits on a machine: built from their wiring, found again, and read back."""

from __future__ import annotations

import importlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TargetError
from .circuit import unit
from .circuit_plan import NEURON_PARAMETERS
from .live_link import Core, LiveLink
from .machine import Machine
from .wiring import DECISION, INPUT, SYNAPSE, Wire, Wiring, keys_of

# Where a population's cores hold their ring-buffer shifts: a region, and the words before them.
_SYNAPSE_PARAMETERS, _WORDS_BEFORE = "synapse_params", 7
_RECEPTORS = ("excitatory", "inhibitory")


@dataclass(frozen=True, slots=True)
class Keys:
    """Which keys a population's core sends: ``key + (neuron - first) << colour_bits``, below ``key + span``."""

    key: int
    span: int
    first: int
    colour_bits: int


class LoadedCircuit:
    """One circuit's populations and projections on a machine.

    Parameters
    ----------
    machine : Machine
    wired : Wiring
    number : int
        Of the circuit, among several side by side.
    """

    def __init__(self, machine: Machine, wired: Wiring, number: int) -> None:
        self.wired = wired
        self._shifts = {group.name: group.shift for group in wired.groups}
        sim: Any = machine.sim
        external: Any = importlib.import_module("spynnaker.pyNN.external_devices")
        model: Any = importlib.import_module("spynnaker.pyNN.extra_models").IFTruncDelta
        self._view: Any = importlib.import_module("spynnaker.pyNN.data").SpynnakerDataView
        size = keys_of(wired.circuit).size
        self.populations = {
            INPUT: sim.Population(size, external.SpikeInjector(notify=False), label=f"{INPUT} {number}")
        }
        for group in wired.groups:
            parameters = {name: value for name, value in NEURON_PARAMETERS.items() if name != "v_rest"}
            population = sim.Population(
                group.size,
                model(**parameters),
                label=f"{group.name} {number}",
                # Just below the power of two that leads to this shift.
                additional_parameters={"max_expected_summed_weight": [0.9 * 2.0**group.shift] * 2},
            )
            population.set_max_atoms_per_core(group.per_core)
            population.initialize(v=0.0)
            self.populations[group.name] = population
        self._projections = [(wire, self._projection(sim, wire)) for wire in wired.wires]

    def _projection(self, sim: Any, wire: Wire) -> Any:
        synapses = wire.synapses
        weights = synapses["weight"] * unit(self._shifts[wire.target])
        rows = np.column_stack([synapses["source"], synapses["target"], weights, synapses["delay"]]).astype(float)
        return sim.Projection(
            self.populations[wire.source],
            self.populations[wire.target],
            sim.FromListConnector(rows, column_names=["weight", "delay"]),
            sim.StaticSynapse(),
            receptor_type=wire.receptor,
        )

    def send_live(self, link: LiveLink, *, layers: bool) -> None:
        """Have the answers sent to this host, and the spikes of all `layers` if they are wanted."""
        external: Any = importlib.import_module("spynnaker.pyNN.external_devices")
        for group in self.wired.groups:
            if group.name == DECISION or (layers and group.name.startswith("layer")):
                population = self.populations[group.name]
                external.activate_live_output_for(population, port=link.port, host=link.host, notify=False)

    # --- once it is loaded ------------------------------------------------------------------------------------------

    @cached_property
    def injector(self) -> Core:
        """Where the input's spikes are to be sent."""
        (vertex,) = self.populations[INPUT]._vertex.machine_vertices
        placement = self._view.get_placement_of_vertex(vertex)
        return Core(placement.x, placement.y, placement.p)

    def keys(self, name: str) -> list[Keys]:
        """The keys of a population's cores."""
        vertex = self.populations[name]._vertex
        routing = self._view.get_routing_infos()
        found = []
        for part in vertex.machine_vertices:
            info = routing.get_info_from(part, "SPIKE")
            span = (~info.mask & 0xFFFFFFFF) + 1
            found.append(Keys(info.key, span, part.vertex_slice.lo_atom, vertex.n_colour_bits))
        return found

    def read_back(self) -> int:
        """Compare every synapse and every ring-buffer shift on the machine with the wiring; how many synapses.

        Raises
        ------
        TargetError
            At the first that differs.
        """
        for group in self.wired.groups:
            for vertex in self.populations[group.name]._vertex.machine_vertices:
                shifts = self._shifts_of(vertex)
                if shifts != (group.shift, group.shift):
                    raise TargetError(
                        f"The machine holds other ring-buffer shifts than planned: '{group.name}' has {shifts}, not "
                        f"{(group.shift, group.shift)}. Its weights would be wrong by powers of two; it is not used."
                    )
        for wire, projection in self._projections:
            self._compare(wire, self._read(wire, projection))
        return self.wired.synapses

    def _read(self, wire: Wire, projection: Any) -> NDArray[np.void]:
        rows = np.atleast_2d(np.array([tuple(row) for row in projection.get(["weight", "delay"], "list")]))
        found = np.zeros(len(rows), dtype=SYNAPSE)
        if rows.size:
            found["source"], found["target"], found["delay"] = rows[:, 0], rows[:, 1], np.rint(rows[:, 3])
            found["weight"] = np.rint(np.abs(rows[:, 2]) / unit(self._shifts[wire.target]))
        return np.sort(found, order=["source", "target", "delay"])

    def _compare(self, wire: Wire, found: NDArray[np.void]) -> None:
        wanted = np.sort(wire.synapses, order=["source", "target", "delay"])
        if np.array_equal(found, wanted):
            return
        planned, there = ({tuple(synapse) for synapse in synapses.tolist()} for synapses in (wanted, found))
        differing = sorted(planned ^ there)
        source, target, weight, delay = differing[0]
        where = "planned, but not on the machine" if differing[0] in planned else "on the machine, but not planned"
        raise TargetError(
            f"The machine holds other synapses than planned ({len(planned - there)} are missing or different, "
            f"{len(there - planned)} not planned): from neuron {source} of '{wire.source}' to neuron {target} of "
            f"'{wire.target}' ({wire.receptor}), weight {weight} units, delay {delay}, is {where}. It is not used."
        )

    def _shifts_of(self, vertex: Any) -> tuple[int, ...]:
        helpers: Any = importlib.import_module("spinn_front_end_common.utilities.helpful_functions")
        placement = self._view.get_placement_of_vertex(vertex)
        region = getattr(vertex._synapse_regions, _SYNAPSE_PARAMETERS)
        address = helpers.locate_memory_region_for_placement(placement, region)
        data = self._view.get_transceiver().read_memory(
            placement.x, placement.y, address + 4 * _WORDS_BEFORE, 4 * len(_RECEPTORS)
        )
        return struct.unpack(f"<{len(_RECEPTORS)}I", bytes(data))
