"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AgentArgument = Annotated[
    str, typer.Argument(metavar="AGENT", help="A bundled agent's name (spikeloop agents), or a network file (.spk).")
]
ProfileOption = Annotated[
    str,
    typer.Option("--on", metavar="PROFILE", help="A profile's name (spikeloop profiles), or a profile file (.toml)."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the profile; repeatable.")
]
EnvironmentOption = Annotated[
    str, typer.Option("--env", metavar="ID", help="A Gymnasium environment, such as CartPole-v1.")
]
EpisodesOption = Annotated[int, typer.Option("--episodes", min=1, help="How many episodes to run.")]
MaxStepsOption = Annotated[
    int | None, typer.Option("--max-steps", min=1, help="Cut an episode off after so many steps.")
]
SeedOption = Annotated[
    int,
    typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the environment, of random encoders and of the target."),
]
TraceOption = Annotated[
    Path | None, typer.Option("--trace", metavar="FILE", help="Keep the run in this SQLite file, which must not exist.")
]
SpikesOption = Annotated[bool, typer.Option("--spikes", help="Record every spike in the trace.")]
PaceOption = Annotated[
    float | None,
    typer.Option(
        "--pace",
        metavar="SCALE",
        help="Bind time: 1 ms of network time takes SCALE ms of wall time. Default: lock-step.",
    ),
]
SlackOption = Annotated[
    float,
    typer.Option(
        "--slack-ms",
        min=0.0,
        max=60_000.0,
        help="Paced: time per decision besides the window, until it counts as missed.",
    ),
]
MissOption = Annotated[
    str, typer.Option("--on-miss", metavar="POLICY", help="Paced: 'hold' the last action, or 'safe:ACTION'.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=0.1, max=86_400.0, help="Seconds of silence until the host is asked again.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; logs go to stderr.")]
