"""check: does a deployed agent decide as it was trained?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..deploy.twin import trained_for
from ..hardware_profiles.profile import Profile, load_profile, parse_settings
from ..models import load
from ..models.network import Network
from ..runtime.decision import Divergence
from ..runtime.fidelity import check as check_fidelity
from ..runtime.fidelity import load_observations
from .live import planned
from .options import AgentArgument, JsonOption, ProfileOption, SeedOption, SetOption
from .output import emit, facts, progress, say


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("check")(check)


def check(
    agent: AgentArgument,
    on: ProfileOption,
    observations: Annotated[
        Path, typer.Option("--observations", metavar="FILE", help=".npy, or .npz with the array 'observations'.")
    ],
    seed: SeedOption = 0,
    require: Annotated[
        float | None,
        typer.Option("--require", min=0.0, max=100.0, help="Exit with 1 if the agreement (in %) is below."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="WHAT",
            help="'reference': the network's own dynamics; 'twin': the profile's, in software. Default: the twin, for "
            "an agent trained for this profile, else the reference.",
        ),
    ] = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a deployed agent with what it was trained as, on given observations: action agreement and |dV|."""
    network = load(agent)
    profile = load_profile(on, parse_settings(set_ or []))
    planned(network, profile)
    states = load_observations(observations)
    with progress(f"{network.name} on {profile.name}", len(states), unit="observations") as update:
        report = check_fidelity(
            network,
            profile,
            states,
            seed=seed,
            against=against,  # type: ignore[arg-type]  # checked there
            on_progress=update,
        )
    if json:
        emit(report.as_dict())
    else:
        low, high = report.interval
        facts(
            f"{report.network} on {report.profile}, {report.observations} observations",
            [
                ("compared with", _shadow(report.against, network, profile)),
                (
                    "action agreement",
                    f"{100 * report.agreement:.2f} %  [{100 * low:.2f}, {100 * high:.2f}]  (95 % Wilson)",
                ),
                ("|dV| of the output", f"at most {report.max_abs_dv:.3g}, median {report.median_abs_dv:.3g}"),
                ("spike trains", f"{report.differing_trains} of {report.trains} differ"),
                ("first disagreement", "none" if report.first_disagreement is None else report.first_disagreement),
                ("first divergence", _divergence(report.first_divergence)),
                ("ms per decision", f"{report.ms_per_decision:.3f} (spikes recorded)"),
            ],
        )
    if require is not None and 100 * report.agreement < require:
        say(f"agreement is {100 * report.agreement:.2f} %, required are {require:g} %")
        raise typer.Exit(1)


def _shadow(against: str, network: Network, profile: Profile) -> str:
    """What decisions are compared with, in words."""
    if against == "reference":
        return "the reference"
    return f"the twin of {profile.name}" + (", which it was trained under" if trained_for(network, profile) else "")


def _divergence(first: tuple[int, Divergence] | None) -> str:
    return "none: every spike is the same" if first is None else f"observation {first[0]}, {first[1]}"
