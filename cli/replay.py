"""replay: the same episode of a trace again, decision by decision."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bridges.environments import GymnasiumEnvironment
from ..errors import EnvironmentMismatchError, MissingPackageError
from ..hardware_profiles.profile import parse_settings
from ..runtime.replay import Replay, ReplayedDecision, recorded_network
from ..runtime.replay import replay as replay_episode
from ..runtime.trace import Trace
from ..runtime.versions import versions
from .options import JsonOption, SetOption
from .output import emit, facts, progress, say, table

NO_ENVIRONMENT = "none"


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("replay")(replay)


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="What spikeloop run --trace wrote.")],
    episode: Annotated[int, typer.Option("--episode", min=0, help="Which episode.")] = 0,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="PROFILE", help="Another profile: shows what differs. Default: as recorded."),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="FILE", help="The network that ran. Default: found by the recorded name."),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            "--env", metavar="ID", help="The environment, run again with the recorded actions; 'none': leave it out."
        ),
    ] = None,
    decisions: Annotated[bool, typer.Option("--decisions", help="One line per decision.")] = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Take a recorded episode's decisions again, and compare them to the bit; so too what the environment shows.

    Exit code 1: something differs that must not.
    """
    kept = Trace(trace)
    network = recorded_network(kept, agent)
    with contextlib.ExitStack() as stack:
        environment, unmade = _environment(stack, kept, env, network.n_inputs, network.n_outputs)
        total = next((row["length"] for row in kept.episodes() if row["episode"] == episode), None)
        update = stack.enter_context(progress(f"{network.name}, episode {episode}", total or 0, unit="decisions"))
        found = replay_episode(
            kept,
            episode,
            network=network,
            profile=on,
            settings=parse_settings(set_ or []),
            environment=environment,
            on_progress=update,
        )
    others = {} if found.same else _other_versions(kept.meta)
    if json:
        document = found.as_dict() | {"environment_note": unmade, "other_versions": others}
        emit(document if decisions else {name: value for name, value in document.items() if name != "each"})
    else:
        _print(found, unmade, others, decisions)
    if found.broken:
        say("the episode was not replayed to the bit")
        raise typer.Exit(1)


def _environment(
    stack: contextlib.ExitStack, trace: Trace, env: str | None, n_inputs: int, n_actions: int
) -> tuple[GymnasiumEnvironment | None, str | None]:
    """The environment; or why it is not run again."""
    if env == NO_ENVIRONMENT:
        return None, None
    name = env or trace.meta.get("environment")
    if not isinstance(name, str):
        return None, "the trace does not say which it was"
    try:
        opened = GymnasiumEnvironment(name, n_inputs=n_inputs, n_actions=n_actions)
    except (EnvironmentMismatchError, MissingPackageError) as error:
        if env is not None:
            raise
        return None, str(error)
    return stack.enter_context(opened), None


def _other_versions(meta: dict[str, Any]) -> dict[str, list[str | None]]:
    """What was installed in another version when the trace was written."""
    then, now = meta.get("versions"), versions()
    if not isinstance(then, dict):
        return {}
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return {name: [then.get(name), now.get(name)] for name in names}


def _print(found: Replay, unmade: str | None, others: dict[str, list[str | None]], each: bool) -> None:
    if each:
        table(
            f"Episode {found.episode} of {found.trace}",
            ["decision ", "recorded ", "now ", "output", "|dV| ", "spikes"],
            [_row(one) for one in found.each],
        )
    outcome = found.outcome or "cut off"
    pairs: list[tuple[str, object]] = [
        ("recorded", f"on {found.recorded_profile or 'a profile unknown'}, {found.mode}"),
        ("decisions", f"{found.decisions} from seed {found.seed}, {outcome}"),
        ("equal actions", f"{found.equal_actions} of {found.compared}"),
        ("equal outputs, to the bit", f"{found.equal_outputs} of {found.compared}"),
    ]
    if found.max_abs_dv:
        pairs.append(("|dV| of the output", f"at most {found.max_abs_dv:.3g}"))
    if found.compared_spikes:
        pairs.append(("decisions with equal spikes", f"{found.equal_spikes} of {found.compared_spikes}"))
    pairs.append(("first difference", "none" if found.first_difference is None else found.first_difference))
    world = found.environment
    if world is not None:
        shown = f"{world.equal_observations} of {world.observations} observations, to the bit"
        answers = f"{world.equal_answers} of {world.answers} answers"
        pairs.append((f"{world.name} again", f"{shown}; {answers}"))
        if world.first_difference is not None:
            pairs.append(("it differs first", f"at decision {world.first_difference}"))
    else:
        pairs.append(("environment", "not run again" + ("" if unmade is None else f": {unmade}")))
    pairs += [("need not be the same", text) for text in found.doubts]
    pairs += [("not compared", text) for text in found.notes]
    pairs += [("another version", f"{name} {then}, now {now}") for name, (then, now) in others.items()]
    pairs.append(("so", _verdict(found)))
    facts(f"{found.network} on {found.profile}, episode {found.episode} of {found.trace}", pairs)


def _verdict(found: Replay) -> str:
    if not found.same:
        return "it is not the same" + (", and should be" if found.broken else "")
    if not found.compared:
        return "no decision could be compared" + ("" if found.environment is None else "; the environment is the same")
    if found.environment is None:
        return "every decision that was compared is the same to the bit"
    return "the closed loop is the same to the bit"


def _row(one: ReplayedDecision) -> tuple[object, ...]:
    def word(equal: bool | None) -> str | None:
        return None if equal is None else "same" if equal else "other"

    place = one.divergence
    spikes = (
        word(one.equal_spikes)
        if place is None
        else f"other from step {place.step}, layer {place.layer}, neuron {place.neuron}"
    )
    now = "missed" if one.missed else "not compared" if one.action is None else one.action
    dv = None if one.max_abs_dv is None else f"{one.max_abs_dv:.3g}"
    return one.step, one.recorded_action, now, word(one.equal_output), dv, spikes
