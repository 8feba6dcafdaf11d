"""What a trace says of the run that it holds: which network decided, under which profile, from which seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...deploy.twin import training_facts
from ...errors import InvalidInputError, TraceError
from ...hardware_profiles.profile import Profile, Value, load_profile, profiles
from ...models.loading import bundled, load
from ...models.network import Network
from ..trace import Trace

SUFFIX = ".spk"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a replay deploys.

    Attributes
    ----------
    profile : Profile
    recorded_profile : str
        The name of the one that ran; empty where the trace does not say it.
    same : bool
        Whether `profile` bears on decisions as the recorded one did.
    doubts : tuple of str
        Why the decisions need not be the recorded ones to the bit.
    """

    profile: Profile
    recorded_profile: str
    same: bool
    doubts: tuple[str, ...]


def recorded_network(trace: Trace, given: Network | str | Path | None = None) -> Network:
    """The network of a trace, known by its content hash.

    Parameters
    ----------
    trace : Trace
    given : Network, or the name or path of one, optional
        Unless given, a bundled agent of the recorded name; else a file of that name with ``.spk``, in the working
        folder or beside the trace.

    Raises
    ------
    InvalidInputError
        If there is none, or it is another network than the one that ran.
    UnknownNameError, NetworkFileError
        If the given one cannot be loaded.
    """
    meta = trace.meta
    name, wanted = str(meta.get("agent", "")), meta.get("network_hash")
    if given is None:
        given = _file_of(name, trace)
        if given is None:
            raise InvalidInputError(
                f"{trace.path} was recorded with network '{name}', of which there is no bundled agent and no file "
                f"{name}{SUFFIX} here or beside the trace: say where it is (--agent FILE)."
            )
    network = given if isinstance(given, Network) else load(given)
    if wanted is not None and network.content_hash != wanted:
        where = f"network '{network.name}'" if isinstance(given, Network) else str(given)
        raise InvalidInputError(
            f"{trace.path} was recorded with network '{name}' of hash {str(wanted)[:12]}; {where} has hash "
            f"{network.content_hash[:12]}, so it is another one: give the file that ran (--agent FILE)."
        )
    return network


def recorded_setup(
    trace: Trace,
    profile: Profile | str | Path | None = None,
    settings: Mapping[str, Value | str] | None = None,
) -> Setup:
    """Under which profile to decide again: the recorded one with its settings, unless others are given.

    Raises
    ------
    TraceError
        If the trace holds a profile that cannot be read.
    InvalidInputError
        If it does not say which one ran, and none is given.
    UnknownNameError, ProfileError
        As `load_profile` raises them.
    """
    meta = trace.meta
    doubts = []
    name = str(meta.get("profile", ""))
    recorded = _profile_of(trace, meta)
    if recorded is None and name and profile is None:
        profile = name
    if recorded is None and profile is None:
        raise InvalidInputError(f"{trace.path} does not say under which profile it was recorded: give one (--on).")
    chosen = load_profile(profile if profile is not None else recorded, settings)  # type: ignore[arg-type]  # see above
    if recorded is None:
        doubts.append(f"the trace does not hold the settings of its host; those of '{chosen.name}' here were taken")
        same = chosen.name == name
    elif chosen.name != recorded.name:
        doubts.append(f"this is another profile: '{recorded.name}' was recorded, '{chosen.name}' decides now")
        same = False
    else:
        same = training_facts(chosen)["hash"] == training_facts(recorded)["hash"]
        if not same:
            doubts.append(f"the settings of '{chosen.name}' are not those that were recorded")
    if meta.get("network_hash") is None:
        doubts.append("the trace does not say which network was recorded")
    for one in (chosen, recorded):
        if one is not None and one.machine is not None and one.machine.drop_packets:
            doubts.append(f"{100 * one.machine.drop_packets:g} % of the spikes are lost on their way (drop_packets)")
            break
    return Setup(chosen, name, same, tuple(doubts))


def _file_of(name: str, trace: Trace) -> Path | None:
    agents = bundled()
    if name in agents:
        return agents[name]
    file = f"{name}{SUFFIX}"
    if not name or Path(file).name != file:  # a name is no path, whatever a trace says
        return None
    return next((path for path in (Path(file), trace.path.parent / file) if path.is_file()), None)


def _profile_of(trace: Trace, meta: Mapping[str, Any]) -> Profile | None:
    settings = meta.get("settings")
    if settings is None:
        return None
    if isinstance(settings, dict) and _in_words(settings):
        settings = {**settings, "departures": load_profile(settings["name"]).model_dump()["departures"]}
    try:
        return Profile.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TraceError(
            f"{trace.path} holds a profile that this Spikeloop cannot read: {where}: {first['msg']}. It was written by "
            f"version {dict(meta.get('versions') or {}).get('spikeloop', 'unknown')}; replay it with that one."
        ) from None


def _in_words(settings: Mapping[str, Any]) -> bool:
    """Whether departures are in words only, as older traces have them, of a profile known here: they set nothing."""
    departures = settings.get("departures")
    words = isinstance(departures, list) and any(isinstance(one, str) for one in departures)
    return words and settings.get("name") in profiles()
