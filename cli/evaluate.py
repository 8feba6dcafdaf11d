"""The command that evaluates an agent over many episodes: evaluate."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ..bridges.environments import GymnasiumEnvironment, Spaces, check_fits
from ..errors import InvalidInputError, TargetError
from ..hardware_profiles.profile import parse_settings
from ..runtime.fidelity import load_observations
from ..runtime.versions import versions
from .options import EnvironmentOption, JsonOption, SeedOption, SetOption
from .output import emit, facts, line, progress, say, table

if TYPE_CHECKING:  # training is imported where it is used: it brings Gymnasium
    from ..training.episodes import Episodes
    from ..training.players import Player

# What noise is relative to is measured in so many episodes of the agent's own.
MEASURED_EPISODES = 5
COLUMNS = ["mean ", "std ", "95 % of the mean ", "least ", "median ", "length "]


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("evaluate")(evaluate)


def evaluate(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A network file, a bundled agent's name, a conventional network (.pt, .zip), a training run's folder, "
            "or 'random'.",
        ),
    ],
    env: EnvironmentOption,
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="How many episodes to run.")] = 100,
    seed: SeedOption = 1,
    on: Annotated[
        str, typer.Option("--on", metavar="PROFILE", help="Where a spiking network runs: a profile's name or file.")
    ] = "reference",
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="FILE", help="Another agent: in how many states would it do the same?"),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            "--noise",
            metavar="STD[,STD...]",
            help="Gaussian noise on the observations, as shares of each value's own standard deviation; a row each.",
        ),
    ] = "0",
    noise_absolute: Annotated[
        bool, typer.Option("--noise-absolute", help="--noise is in the observation's own units.")
    ] = False,
    noise_states: Annotated[
        Path | None,
        typer.Option(
            "--noise-states",
            metavar="FILE",
            help="Observations (.npy, .npz) to measure the values' standard deviations on; unless given, those of "
            f"{MEASURED_EPISODES} other episodes of the agent, without noise.",
        ),
    ] = None,
    occlude: Annotated[
        list[str] | None,
        typer.Option(
            "--occlude",
            metavar="NUMBERS",
            help="Set values to 0: their indices, as 0,2, or of images a rectangle X,Y,WIDTH,HEIGHT; repeatable.",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="current, poisson or equidistant; the network's unless given.")
    ] = None,
    two_neurons: Annotated[bool, typer.Option("--two-neurons", help="Two channels per input, for the signs.")] = False,
    gain: Annotated[
        float | None, typer.Option("--gain", help="Spikes per step and unit of input; the network's unless given.")
    ] = None,
    decoder: Annotated[
        str | None, typer.Option("--decoder", help="potential, spike_count or first_spike; the network's unless given.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Length of a decision's window; the network's unless given.")
    ] = None,
    constant_one: Annotated[
        bool, typer.Option("--constant-one", help="A torch file trained with one extra input fixed at 1.")
    ] = False,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="Of a conventional network's file that does not say it.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Cut episodes off after so many decisions.")
    ] = None,
    epsilon: Annotated[
        float, typer.Option("--epsilon", min=0.0, max=1.0, help="Share of the actions that are drawn at random.")
    ] = 0.0,
    save_states: Annotated[
        Path | None,
        typer.Option("--save-states", metavar="FILE", help="Keep the states and actions in this .npz file."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the states' file if it exists.")] = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Play many episodes and say how good an agent is, and how sure that is; on request under noise or occlusion."""
    from ..training.episodes import play
    from ..training.evaluation import figures
    from ..training.perturbation import Perturbation, occluded
    from ..training.players import Encoding, open_player

    shares = _numbers(noise, "--noise", float)
    _check_noise(shares, noise_absolute, noise_states)
    _check_states_file(save_states, force, len(shares))
    encoding = Encoding(encoder, two_neurons, gain, decoder, steps)  # type: ignore[arg-type]  # checked where applied
    with GymnasiumEnvironment(env) as environment:
        spaces = environment.spaces
    hidden = [occluded(spaces, _numbers(text, "--occlude", int)) for text in occlude or []]
    where = np.unique(np.concatenate(hidden)) if hidden else np.zeros(0, dtype=np.int64)

    with contextlib.ExitStack() as stack:
        player = stack.enter_context(
            open_player(
                file,
                spaces.n_actions,
                profile=on,
                settings=parse_settings(set_ or []),
                seed=seed,
                encoding=encoding,
                constant_one=constant_one,
                architecture=architecture,
            )
        )
        check_fits(env, spaces, player.n_inputs, player.n_actions)
        for finding in player.findings:
            if finding.severity == "warning":
                say(f"warning: {finding}")
        other = None
        if compare is not None:
            other = stack.enter_context(open_player(compare, spaces.n_actions))
            check_fits(env, spaces, other.n_inputs, other.n_actions)
        limits = {"epsilon": epsilon, "max_steps": max_steps, "side_by_side": player.side_by_side}
        unit = np.ones(spaces.n_inputs)
        if any(shares) and not noise_absolute:
            unit = _deviations(env, player, seed + episodes, noise_states, spaces, limits)

        results = []
        update = stack.enter_context(progress(player.name, episodes * len(shares), unit="episodes"))
        for index, share in enumerate(shares):
            ran = play(
                env,
                player.decide,
                episodes,
                seed,
                observe=Perturbation(share * unit, where, spaces.dtype),
                other=None if other is None else other.decide,
                keep=None if save_states is None else np.uint8 if spaces.dtype == np.uint8 else np.float32,
                on_progress=lambda done, decisions, before=index * episodes: update(  # type: ignore[misc]
                    before + done, f"{decisions} decisions"
                ),
                **limits,  # type: ignore[arg-type]
            )
            results.append({"noise": share, **figures(ran, compared=other is not None)})
    differing = min(result["distinct_episodes"] for result in results)
    if differing < episodes:
        say(
            f"warning: only {differing} of {episodes} episodes differ, so the mean is less sure than its interval "
            "says: draw some actions at random (--epsilon), or choose an environment whose starts differ more"
        )
    failure = None
    if save_states is not None:
        try:
            _save_states(save_states, ran)
        except TargetError as error:  # what was measured is told none the less
            failure = error
    title = f"{player.name} in {env}"
    if json:
        emit(
            {
                "agent": player.name,
                **player.facts,
                "environment": env,
                "episodes": episodes,
                "first_seed": seed,
                "epsilon": epsilon,
                "max_steps": max_steps,
                "occluded": where.tolist(),
                "noise_unit": 1.0 if noise_absolute else unit.tolist() if any(shares) else None,
                "compared_with": None if other is None else {"name": other.name, **other.facts},
                "interval": "95 %: Student's t of the mean return, Wilson's of the agreement",
                "results": results,
                "states": None if save_states is None else str(failure or save_states),
                "versions": versions(),
            }
        )
    elif len(results) == 1:
        facts(title, _told(results[0], episodes, other))
    else:
        columns = ["noise ", *COLUMNS, *(["agreement ", "95 % "] if other else [])]
        table(f"{title}, {episodes} episodes a row", columns, [_row(result) for result in results])
    if failure is not None:
        if not json:
            raise failure
        say(f"error: {failure}")  # stdout has its one document
        raise typer.Exit(failure.exit_code)
    if save_states is not None and not json:
        line(f"{save_states}: {len(ran.actions)} states")


def _numbers(text: str, option: str, kind: Any) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise InvalidInputError(f"{option} {text} was given; {what} with commas between them are needed.") from None


def _check_noise(shares: list[float], absolute: bool, states: Path | None) -> None:
    for share in shares:
        if not 0.0 <= share < np.inf:
            raise InvalidInputError(f"--noise {share:g} was given; it must be a finite number of at least 0.")
    if states is not None and absolute:
        raise InvalidInputError("--noise-states says what noise is relative to; with --noise-absolute it has no use.")


def _check_states_file(path: Path | None, force: bool, rows: int) -> None:
    if path is None:
        return
    if path.exists() and not force:
        raise InvalidInputError(f"{path} exists: give another name, or --force to replace it.")
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInputError(f"--save-states {path} was given; a file in a folder that exists is needed.")
    if rows != 1:
        raise InvalidInputError(f"--save-states keeps the states of one --noise; {rows} were given.")


def _deviations(
    env: str, player: Player, seed: int, states: Path | None, spaces: Spaces, limits: dict[str, Any]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    from ..training.episodes import play
    from ..training.perturbation import deviations

    if states is None:
        keep = spaces.dtype if spaces.dtype == np.uint8 else np.float64
        return deviations(play(env, player.decide, MEASURED_EPISODES, seed, keep=keep, **limits).observations)
    found = load_observations(states)
    if found.ndim != 2 or found.shape[1] != spaces.n_inputs or not len(found):
        raise InvalidInputError(
            f"{states} holds observations of shape {found.shape}; environment '{env}' needs [n, {spaces.n_inputs}]."
        )
    unit = deviations(found)
    if not unit.any():
        raise InvalidInputError(
            f"{states} holds {len(found)} observations that do not differ: noise is given as a share of how much they "
            "do. Give more states, or --noise-absolute."
        )
    return unit


def _save_states(path: Path, ran: Episodes) -> None:
    """Write the states in the order of their episodes, whatever was played side by side."""
    from ..training.storage import replace_file

    order = np.argsort(ran.episode, kind="stable")
    observations, actions = ran.observations[order], ran.actions[order]
    replace_file(path, lambda stream: np.savez_compressed(stream, observations=observations, actions=actions))


def _told(result: dict[str, Any], episodes: int, other: Player | None) -> list[tuple[str, object]]:
    interval = result["mean_interval"]
    of_mean = "none of a single episode" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    pairs: list[tuple[str, object]] = [
        ("mean return", f"{result['mean_return']:.2f}  (95 %, Student's t: {of_mean})"),
        ("standard deviation", f"{result['std_return']:.2f}"),
        (
            "least, median, largest",
            f"{result['min_return']:g}, {result['median_return']:g}, {result['max_return']:g}",
        ),
        ("episodes", f"{episodes}, of {result['mean_length']:.1f} decisions on average"),
    ]
    if result["noise"]:
        pairs.append(("noise", f"{result['noise']:g}"))
    if other is not None:
        low, high = result["agreement_interval"]
        pairs.append(
            (
                f"agreement with {other.name}",
                f"{100 * result['agreement']:.2f} %  ({result['agreed']} of {result['decisions']}; 95 %, Wilson: "
                f"{100 * low:.2f} to {100 * high:.2f})",
            )
        )
    return pairs


def _row(result: dict[str, Any]) -> list[str]:
    interval = result["mean_interval"]
    row = [
        f"{result['noise']:g}",
        f"{result['mean_return']:.2f}",
        f"{result['std_return']:.2f}",
        "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}",
        f"{result['min_return']:g}",
        f"{result['median_return']:g}",
        f"{result['mean_length']:.1f}",
    ]
    if "agreement" in result:
        low, high = result["agreement_interval"]
        row += [f"{100 * result['agreement']:.2f} %", f"{100 * low:.2f} to {100 * high:.2f}"]
    return row
