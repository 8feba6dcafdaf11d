"""check: does a deployed agent decide as it was trained, and if not, why?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..bridges.environments import environment_for
from ..errors import InvalidInputError, UnknownNameError
from ..hardware_profiles.profile import Profile, load_profile, parse_settings
from ..models import load
from ..models.network import Network
from ..runtime.agent import Decider, launch
from ..runtime.fidelity import FidelityReport, Observations, compared_with, launch_expected, observations_of
from ..runtime.fidelity.observations import split_environment
from ..runtime.fidelity.report import Against, FreeRunning
from .fidelity import print_report, print_summary
from .live import planned
from .options import JsonOption, SeedOption, SetOption
from .output import emit, line, progress, say

if TYPE_CHECKING:
    from ..runtime.fidelity.checking import Compared
    from ..runtime.fidelity.large import Case

OF_EPISODES = 1_000  # observations
BASELINES: tuple[Against, ...] = ("reference", "twin")


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("check")(check)


def check(
    agents: Annotated[
        list[str],
        typer.Argument(metavar="AGENT...", help="Bundled agents' names (spikeloop agents), or network files (.spk)."),
    ],
    on: Annotated[
        list[str],
        typer.Option("--on", metavar="PROFILE", help="A profile's name (spikeloop profiles) or file; repeatable."),
    ],
    observations: Annotated[
        str,
        typer.Option(
            "--observations",
            metavar="FILE|ENV:EPISODES",
            help=".npy; .npz with the array 'observations'; a run's trace (.db); or as CartPole-v1:20, the states that "
            "the agent meets in so many episodes, which the target then plays by itself, too.",
        ),
    ],
    most: Annotated[
        int | None,
        typer.Option(
            "--most",
            min=1,
            help=f"At most so many observations, evenly picked from all there are; of episodes {OF_EPISODES:,} unless "
            "given, of files all.",
        ),
    ] = None,
    seed: SeedOption = 0,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N,N...", help="Several seeds, in place of --seed.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="WHAT|FILE",
            help="'reference': the network's own dynamics; 'twin': the profile's, in software (default: the twin for "
            "an agent trained for this profile, else the reference). A file: the conventional network it came from, "
            "compared as well. Repeatable.",
        ),
    ] = None,
    steps_sweep: Annotated[
        str | None,
        typer.Option("--steps-sweep", metavar="N,N...", help="Windows of other lengths to try, as 10,20,50."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain/--no-explain", help="Say what each departure of the profile costs.")
    ] = True,
    require: Annotated[
        float | None,
        typer.Option("--require", min=0.0, max=100.0, help="Exit with 1 if an agreement (in %) is below."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write an HTML page that needs no network.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes side by side.")] = 1,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="A Dask scheduler, as tcp://host:8786.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="FOLDER", help="Keep finished work there; the same command goes on from it."),
    ] = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Compare deployed agents with what they were trained as, find where they first part, and say why."""
    # These bring Numba, which no other command should wait for.
    from ..bridges.free_runs import free_runs
    from ..runtime.fidelity.anytime import require_steps
    from ..runtime.fidelity.checking import compare, complete
    from ..runtime.fidelity.large import Case, comparisons, target_records

    _require_words({"--observations": observations, "--keep": keep, "--cluster": cluster})
    baseline, origin_file = _against(against or [])
    windows = () if steps_sweep is None else require_steps(_numbers(steps_sweep, "--steps-sweep"))
    many_seeds = [seed] if seeds is None else _numbers(seeds, "--seeds")
    page = _page(report)
    networks = [load(agent) for agent in dict.fromkeys(agents)]
    profiles = [load_profile(name, parse_settings(set_ or [])) for name in dict.fromkeys(on)]
    for network in networks:
        with _origin(origin_file, network):  # refused, if it is, before anything long is begun
            pass
        for profile in profiles:
            planned(network, profile)
    env, episodes = split_environment(observations) or (None, 0)
    most = most or (OF_EPISODES if env else sys.maxsize)
    played = lru_cache(partial(_observed, observations, most))  # by the reference: the same for all profiles
    cases = []
    for network in networks:
        for profile in profiles:
            by_reference = (baseline or compared_with(network, profile)) == "reference"
            for one in many_seeds:
                found = played(network, one) if by_reference else _observed(observations, most, network, one, profile)
                cases.append(Case(network, profile, found.values, one, found.source))
    how: Any = {"against": baseline, "explain": explain, "steps_sweep": windows}
    compared: Sequence[Compared | None] = [None] * len(cases)
    free: Sequence[FreeRunning | None] = [None] * len(cases)
    if jobs > 1 or cluster is not None or keep is not None:
        where: Any = {"jobs": jobs, "cluster": cluster, "folder": keep, "on_note": say}
        with _progress("targets", "shares") as update:
            given = target_records(cases, **where, on_progress=update)
        with _progress("comparisons", "shares") as update:
            compared = comparisons(cases, given, **how, **where, on_progress=update)
        if env is not None and origin_file is None:  # which looks on, and whose file others need not have
            with _progress("episodes", "shares") as update:
                free = free_runs(cases, env, episodes, against=baseline, **where, on_progress=update)
    reports = []
    for case, known, ran in zip(cases, compared, free, strict=True):
        of = case.network, case.profile, case.states
        with _origin(origin_file, case.network) as origin, _stages(case) as told:
            if known is None:
                known = compare(*of, **how, seed=case.seed, source=case.source, on_progress=told)
            reports.append(
                complete(
                    known,
                    *of,
                    origin=origin,
                    environment=None if env is None else partial(environment_for, env, case.network),
                    episodes=episodes,
                    free=ran,
                    on_progress=told,
                )
            )
    _show(reports, json)
    if page is not None and report is not None:
        page(reports, report)
        if not json:
            line(f"{report}: the report")
    _require(reports, require)


def _observed(
    observations: str, most: int, network: Network, seed: int, profile: Profile | None = None
) -> Observations:
    """Observations for a network; where they are episodes, the twin of the profile plays, or the reference."""

    def player() -> Decider:
        return launch(network, seed=seed) if profile is None else launch_expected(network, profile, "twin", seed=seed)

    with progress(f"{network.name}, observations", 1, unit="episodes") as update:
        return observations_of(
            observations,
            network,
            seed=seed,
            most=most,
            make_environment=lambda name: environment_for(name, network),
            player=player,
            on_progress=update,
        )


def _show(reports: list[FidelityReport], json: bool) -> None:
    if json:
        documents = [report.as_dict() for report in reports]
        emit(documents[0] if len(documents) == 1 else {"reports": documents})
        return
    for report in reports:
        print_report(report)
    if len(reports) > 1:
        print_summary(reports)


def _require(reports: list[FidelityReport], require: float | None) -> None:
    """The gate."""
    if require is None:
        return
    # As it was written: 471 of 500 are 94.2 %, which floats make a little less.
    least = Fraction(repr(require)) / 100
    failed = [one for one in reports if Fraction(one.teacher_forced.agreed, one.teacher_forced.of) < least]
    for report in failed:
        share = 100 * report.agreement
        say(
            f"{report.network} on {report.profile}: agreement is {share:.2f} %, required are {require:g} %: "
            f"{require - share:.2f} points too little"
        )
    if failed:
        raise typer.Exit(1)


def _require_words(options: dict[str, str | None]) -> None:
    """Refuse what is given without a word, as a script does with a variable that is not set: "" is a path, too."""
    for option, word in options.items():
        if word is not None and not word.strip():
            raise InvalidInputError(f"{option} was given an empty text; leave it out, or say which.")


def _against(words: list[str]) -> tuple[Against | None, str | None]:
    """The baseline, and the file of the conventional network."""
    baselines = [word for word in BASELINES if word in words]
    files = [word for word in words if word not in BASELINES]
    _require_words({"--against": None if all(word.strip() for word in files) else ""})
    for given, what in ((baselines, "'reference' and 'twin'"), (files, "several files")):
        if len(given) > 1:
            raise InvalidInputError(f"--against was given {what}; give one of them.")
    return (baselines[0] if baselines else None), (files[0] if files else None)


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or max(numbers) >= 2**31 or len(set(numbers)) < len(numbers):
        raise InvalidInputError(f"{option} {text} was given; different whole numbers with commas between are needed.")
    return numbers


def _page(path: Path | None) -> Any:
    """What writes the page, looked for before anything long is begun."""
    if path is None:
        return None
    if not path.parent.is_dir() or (path.exists() and not path.is_file()):  # which the page would take the place of
        raise InvalidInputError(f"--report {path} was given; a file in a folder that exists is needed.")
    from .report import write_page

    return write_page


@contextlib.contextmanager
def _origin(file: str | None, network: Network) -> Iterator[tuple[str, Decider] | None]:
    if file is None:
        yield None
        return
    from .origin import open_origin

    try:
        name, decider = open_origin(file, network.n_inputs, network.n_outputs)
    except UnknownNameError as error:
        raise InvalidInputError(
            f"--against {file} was given; it must be 'reference' or 'twin', or the network that the agent came from: "
            f"{error}"
        ) from None
    try:
        yield name, decider
    finally:
        decider.close()


@contextlib.contextmanager
def _progress(description: str, unit: str) -> Iterator[Any]:
    """A bar whose length is known only later: yields ``update(done, total)``."""
    with progress(description, 1, unit=unit) as update:
        yield lambda done, total: update(done, total=total)


@contextlib.contextmanager
def _stages(case: Case) -> Iterator[Any]:
    """One bar for all that a check does, one stage after the other."""
    with progress(f"{case.network.name} on {case.profile.name}", len(case.states), unit="") as update:
        yield lambda stage, done, of: update(done, note=stage, total=of)
