"""The Profile: a contract that can be executed. One TOML file states one profile."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ProfileError, UnknownNameError

Value = bool | int | float | str
SCHEMA_VERSION = 1

# How a target can depart from a Network's dynamics: what can be adopted one by one, in deploy/departures.
DepartureKind = Literal[
    "time step",
    "step length",
    "reset",
    "refractory",
    "delay",
    "order",
    "leak",
    "synapse",
    "threshold",
    "output threshold",
    "floor",
    "window",
    "weight precision",
    "state precision",
    "input quantisation",
    "rate coding",
    "noise",
    "packet loss",
    "readout",
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TimeGrid(_Part):
    """Time on the target."""

    step_ms: float = Field(gt=0, le=1000, description="target time of one step of the network")
    resolution_ms: float = Field(ge=0.001, le=1000, description="the target's own time step")
    delay_ms: float = Field(gt=0, le=1000, description="synaptic delay between layers")
    input_delay_ms: float = Field(default=0.0, ge=0, le=1000, description="delay of the input; 0: it acts at once")

    @model_validator(mode="after")
    def _on_the_grid(self) -> TimeGrid:
        for name in ("step_ms", "delay_ms", "input_delay_ms"):
            ratio = getattr(self, name) / self.resolution_ms
            if abs(ratio - round(ratio)) > 1e-9:
                raise ValueError(f"{name}={getattr(self, name)} is no multiple of resolution_ms={self.resolution_ms}")
        return self


class NeuronModel(_Part):
    """The neuron that stands for a neuron of the network."""

    model: str = Field(description="the target's name of the neuron model")
    reset: Literal["subtract", "zero", "none"] = Field(description="what a spike does to the potential")
    parameters: dict[str, Value] = Field(default_factory=dict, description="parameters of the model, in its own units")


class Circuit(_Part):
    """The number formats of a decision circuit; see docs/spinnaker.md. A unit of a weight is 2^(shift - 15)."""

    input_bits: int = Field(default=6, ge=2, le=12, description="bits of each quantised input, in two's complement")
    hidden_shift: int = Field(default=4, ge=0, le=8, description="ring-buffer shift of all layers but the last")
    output_shift: int = Field(default=0, ge=0, le=8, description="ring-buffer shift of the last layer")


class Machine(_Part):
    """The SpiNNaker machine, and how it is used. Nothing of this bears on a decision."""

    machine_name: str = Field(default="", description="host name or IP address of a board")
    version: Literal[3, 5] = Field(default=5, description="of the board: 3 has 4 chips, 5 has 48")
    spalloc_server: str = Field(default="", description="host name or URL of a spalloc server that lends boards")
    spalloc_user: str = Field(default="", description="who borrows the board, where the server is given as a name")
    take_over: bool = Field(default=False, description="use the board though something runs there; that is stopped")
    timing: Literal["lock-step", "free-running"] = Field(
        default="lock-step", description="whether the board's time stands still between decisions"
    )
    time_scale_factor: int = Field(default=1, ge=1, le=1000, description="how many times slower than real time")
    neurons_per_core: int = Field(default=16, ge=1, le=64, description="of the decision circuit's layers")
    circuits: int = Field(default=1, ge=1, le=64, description="copies of the network side by side, for a batch")
    gate_steps: int = Field(
        default=5, ge=1, le=15, description="free-running: time for an observation's spikes to come"
    )
    answer_ms: float = Field(default=50.0, ge=1, le=60_000, description="free-running: silence until a resend")
    resends: int = Field(default=5, ge=0, le=100, description="how often an observation is sent again")
    send_spikes: bool = Field(default=False, description="have all spikes sent to this host from the beginning")
    read_back: bool = Field(default=True, description="compare every synapse on the machine with the plan")
    self_test: bool = Field(default=True, description="test threshold, flush and a few decisions before the first")
    udp_loss: float = Field(default=0.0, ge=0, lt=1, description="virtual board: share of datagrams lost")
    udp_delay_ms: float = Field(default=0.0, ge=0, le=10_000, description="virtual board: how late datagrams come")
    drop_packets: float = Field(default=0.0, ge=0, lt=1, description="virtual board: share of spikes that routers drop")
    fault_seed: int = Field(default=1, ge=0, description="virtual board: of what is lost")


class Limits(_Part):
    """How much the target can take."""

    max_neurons: int = Field(default=100_000, ge=1)
    max_synapses: int = Field(default=20_000_000, ge=1)


class Departure(_Part):
    """One way in which an approximate profile departs from the Network's dynamics.

    The kind says which of the profile's settings it stands for; see docs/profiles.md.
    """

    kind: DepartureKind
    text: str = Field(min_length=1, description="in words")

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Profile(_Part):
    """Where a network can run, and how: see docs/profiles.md for the fields in prose.

    `exact` is a promise that tests keep: the target decides as the reference does, up to rounding. `departures` are all
    ways in which an approximate profile differs from the Network's dynamics.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    target: str = Field(description="the backend that executes the profile")
    mapping: Literal["reference", "exact", "point_neuron", "pynn", "decision_circuit"] = Field(
        description="how networks are mapped"
    )
    summary: str
    source: str = Field(description="where the settings come from")
    exact: bool
    stochastic: bool = Field(default=False, description="the target draws random numbers")
    precision: str = Field(description="number format of potentials and weights on the target")
    update_order: str = Field(description="what happens first within a step")
    departures: tuple[Departure, ...] = Field(default=(), strict=False)  # TOML has lists
    time: TimeGrid | None = None
    neuron: NeuronModel | None = None
    circuit: Circuit | None = None
    machine: Machine | None = None
    limits: Limits = Limits()
    contract: str = Field(default="", description="the profile that this one extends: same decisions, other target")
    targets: tuple[str, ...] = Field(default=(), strict=False, description="what `target` may be set to")

    @model_validator(mode="after")
    def _complete(self) -> Profile:
        states_neurons = self.mapping in ("point_neuron", "pynn")
        if states_neurons and (self.time is None or self.neuron is None):
            raise ValueError(f"mapping '{self.mapping}' needs the tables [time] and [neuron]")
        if not states_neurons and (self.time is not None or self.neuron is not None):
            raise ValueError(f"mapping '{self.mapping}' chooses time and neurons itself: leave out [time] and [neuron]")
        if (self.mapping == "decision_circuit") != (self.circuit is not None):
            raise ValueError("mapping 'decision_circuit', and no other, needs the table [circuit]")
        if self.exact and (states_neurons or self.circuit):
            raise ValueError(f"mapping '{self.mapping}' is never exact: set exact = false and say what departs")
        if self.targets and self.target not in self.targets:
            raise ValueError(f"target is '{self.target}'; it must be one of {', '.join(self.targets)}")
        kinds = [departure.kind for departure in self.departures]
        if len(set(kinds)) < len(kinds):
            twice = next(kind for kind in kinds if kinds.count(kind) > 1)
            raise ValueError(f"two departures are of the kind '{twice}': say it in one")
        if self.exact == bool(self.departures):
            raise ValueError("an exact profile lists no departures, and an approximate one lists at least one")
        return self

    def settings(self) -> dict[str, Value]:
        """What `with_settings` can override, by key."""
        found: dict[str, Value] = {"target": self.target} if self.targets else {}
        for table in (self.time, self.neuron, self.circuit, self.machine, self.limits):
            if table is not None:
                values = table.model_dump()
                values.update(values.pop("parameters", {}))
                found.update(values)
        return found

    @property
    def settings_for_spikes(self) -> dict[str, Value]:
        """What to set where spikes will be recorded, so that the target need not be loaded anew for them."""
        return {"send_spikes": True} if self.machine is not None else {}

    def with_settings(self, overrides: Mapping[str, Value | str]) -> Profile:
        """This profile with some settings replaced; values given as text are read as TOML.

        Raises
        ------
        ProfileError
            If a value does not fit its setting.
        UnknownNameError
            If there is no setting of that key.
        """
        known = self.settings()
        data = self.model_dump()
        for key, given in overrides.items():
            if key not in known:
                raise UnknownNameError.among("setting", key, known, f"The profile is '{self.name}'.")
            value = _value(given)
            if key == "target":
                data[key] = value
                continue
            table = next(t for t in _TABLES if data[t] and key in _flat(data[t]))
            if key in data[table]:
                data[table][key] = value
            else:
                before = data[table]["parameters"][key]
                if _kind(value) != _kind(before):
                    raise ProfileError(
                        f"Setting {key}={given} was given; it must be {_kind(before)}, such as {before} "
                        f"in profile '{self.name}'."
                    )
                data[table]["parameters"][key] = value
        return _validated(data, f"profile '{self.name}' with " + ", ".join(f"{k}={v}" for k, v in overrides.items()))


_TABLES: dict[str, type[_Part]] = {
    "time": TimeGrid,
    "neuron": NeuronModel,
    "circuit": Circuit,
    "machine": Machine,
    "limits": Limits,
}


def profiles() -> dict[str, Path]:
    """The profiles that come with Spikeloop: name -> file."""
    folder = Path(str(resources.files(__package__)))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_profile(source: str | Path | Profile, settings: Mapping[str, Value | str] | None = None) -> Profile:
    """A profile by name or by the path of a TOML file, with `settings` overridden.

    Raises
    ------
    UnknownNameError
        If there is neither a profile nor a file of that name.
    ProfileError
        If the file, or a setting, is not valid.
    """
    if not isinstance(source, Profile):
        source = _read(source)
    return source.with_settings(settings) if settings else source


def parse_settings(assignments: Iterable[str]) -> dict[str, str]:
    """The ``key=value`` words of a command line as a mapping."""
    pairs: dict[str, str] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ProfileError(f"'{word}' was given for --set; it must be of the form key=value.")
        pairs[key.strip()] = value.strip()
    return pairs


def _read(source: str | Path) -> Profile:
    known = profiles()
    path = known.get(str(source)) or Path(source)
    data = _toml(path, source, known)
    if isinstance(base := data.get("contract"), str) and base in known and base != path.stem:
        data = _extended(_toml(known[base], base, known), data)
    return _validated(data, str(path))


def _extended(base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What `data` says, and of `base` all that it does not say."""
    merged = {**base, **data}
    for table in _TABLES:
        if isinstance(base.get(table), dict) and isinstance(data.get(table), dict):
            merged[table] = {**base[table], **data[table]}
    return merged


def _toml(path: Path, source: str | Path, known: Mapping[str, Path]) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise UnknownNameError.among("profile or profile file", str(source), known)
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"Cannot read the profile {path}: {error.strerror or error}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(f"{path} is no valid TOML: {error}.") from None
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ProfileError(
            f"{path} has schema version {version}; this Spikeloop reads up to {SCHEMA_VERSION}: "
            "pip install -U spikeloop"
        )
    return data


def _validated(data: Mapping[str, Any], what: str) -> Profile:
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        errors = error.errors()
        unknown = next((item for item in errors if item["type"] == "extra_forbidden"), None)
        if unknown is not None:  # first, because a key that is misspelt is missing too
            *tables, key = unknown["loc"]
            model = _TABLES[str(tables[0])] if tables else Profile
            raise ProfileError(f"In {what}: {UnknownNameError.among('key', str(key), model.model_fields)}") from None
        first = errors[0]
        where, text = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        if first["loc"][:2] == ("neuron", "parameters"):
            where, text = ".".join(map(str, first["loc"][:3])), "must be a finite number, true or false, or text"
        given = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r}"
        raise ProfileError(f"In {what}: {where + ': ' if where else ''}{text}{given}.") from None


def _value(given: Value | str) -> Value:
    if not isinstance(given, str):
        return given
    try:
        value = tomllib.loads(f"value = {given}")["value"]
    except tomllib.TOMLDecodeError:
        return given
    return value if isinstance(value, bool | int | float | str) else given


def _flat(table: Mapping[str, Any]) -> set[str]:
    return set(table) - {"parameters"} | set(table.get("parameters", {}))


def _kind(value: Value) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a number"
