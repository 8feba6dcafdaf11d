"""Commands that run a network: run, serve, drive."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bridges.client import RemoteAgent
from ..bridges.environments import GymnasiumEnvironment
from ..bridges.host import Host
from ..bridges.host_process import HostProcess
from ..deploy.deployment import Deployment
from ..deploy.mapping import plan as plan_deployment
from ..errors import InvalidInputError
from ..hardware_profiles.profile import Profile, load_profile, parse_settings
from ..models import load
from ..models.network import Network
from ..runtime.agent import Decider, launch
from ..runtime.fidelity import compared_with, launch_expected
from ..runtime.loop import EpisodeResult, run_episodes
from ..runtime.pacing import MissPolicy, Pace
from ..runtime.trace import TraceWriter
from ..runtime.versions import versions
from .options import (
    AgentArgument,
    EnvironmentOption,
    EpisodesOption,
    JsonOption,
    MaxStepsOption,
    MissOption,
    PaceOption,
    ProfileOption,
    SeedOption,
    SetOption,
    SlackOption,
    SpikesOption,
    TimeoutOption,
    TraceOption,
)
from .output import emit, line, progress, say
from .summary import print_summary, summarised

MAX_PACE = 1e6


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command("run")(run)
    app.command("serve")(serve)
    app.command("drive")(drive)


def run(
    agent: AgentArgument,
    on: ProfileOption,
    env: EnvironmentOption,
    episodes: EpisodesOption = 10,
    max_steps: MaxStepsOption = None,
    seed: SeedOption = 0,
    trace: TraceOption = None,
    spikes: SpikesOption = False,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Compare every spike of every decision with the reference or twin, and say where they part.",
        ),
    ] = False,
    pace: PaceOption = None,
    slack_ms: SlackOption = 5.0,
    on_miss: MissOption = "hold",
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Without the bridge: network and environment in one process.")
    ] = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Run an agent live in an environment, over the bridge, and compare each decision with the reference."""
    network = load(agent)
    settings = parse_settings(set_ or [])
    profile = load_profile(on, settings)
    deployment = planned(network, profile)
    _check_pace(pace)
    _check_spikes(spikes, trace)
    if spikes or shadow:
        settings |= {key: str(value).lower() for key, value in profile.settings_for_spikes.items()}
    miss = _miss_policy(on_miss, network.n_outputs)
    if pace is not None and in_process:
        raise InvalidInputError("--pace needs the bridge: a decision in this process cannot be overtaken by time.")
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(
            GymnasiumEnvironment(env, n_inputs=network.n_inputs, n_actions=network.n_outputs, **_limited(max_steps))
        )
        decider: Decider
        if in_process:
            decider = stack.enter_context(launch(network, on, seed=seed, settings=settings))
        else:
            host = stack.enter_context(HostProcess(network, on, settings=settings, seed=seed, pace_scale=pace))
            decider = stack.enter_context(
                RemoteAgent(host.address, expect_network=network.content_hash, name="run", why_dead=host.why_dead)
            )
        window_s = deployment.window.lasts_ms(network.steps) * (pace or 0.0) / 1e3
        facts_of_run = {
            "agent": network.name,
            "network_hash": network.content_hash,
            "profile": deployment.profile.name,
            "environment": env,
            "seed": seed,
            "mode": "lock-step" if pace is None else f"paced x {pace:g}",
            "bridge": not in_process,
            "compared_with": compared_with(network, profile),
        }
        _run_and_report(
            environment,
            decider,
            facts_of_run,
            meta={"network": _network_meta(network), "settings": profile.model_dump()},
            reference=stack.enter_context(
                launch_expected(network, profile, compared_with(network, profile), seed=seed)
            ),
            episodes=episodes,
            seed=seed,
            trace=trace,
            spikes=spikes,
            shadow=shadow,
            pace=None if pace is None else Pace(window_s, slack_ms / 1e3, miss),
            json=json,
            deployment=deployment,
        )


def serve(
    agent: AgentArgument,
    on: ProfileOption,
    bind: Annotated[
        str, typer.Option("--bind", metavar="ADDRESS", help="tcp://HOST:PORT; port * takes a free one.")
    ] = "tcp://127.0.0.1:5560",
    seed: SeedOption = 0,
    pace: PaceOption = None,
    max_clients: Annotated[int, typer.Option("--max-clients", min=1, help="Lock-step: how many at a time.")] = 8,
    idle_timeout: Annotated[
        float, typer.Option("--idle-timeout", min=0.1, help="Seconds of silence after which a client's place is free.")
    ] = 60.0,
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Host a network for environments in other processes, possibly on other machines. Ctrl-C stops it."""
    network = load(agent)
    profile = load_profile(on, parse_settings(set_ or []))
    _check_pace(pace)
    planned(network, profile)
    watch = _StdinWatch() if until_stdin_closes else None  # before anything is opened, which can take long
    with (
        launch(network, profile, seed=seed) as deployed,
        Host(deployed, bind, max_clients=max_clients, idle_timeout_s=idle_timeout, pace_scale=pace, log=say) as host,
        contextlib.suppress(KeyboardInterrupt),  # the way to stop it, also before it serves
    ):
        if json:
            ready = {"address": host.address, "network_hash": network.content_hash, "profile": profile.name}
            emit(ready, indent=None)
        else:
            line(f"{network.name} on {profile.name} listens at {host.address}; Ctrl-C stops it")
        if watch is not None:
            watch.host = host
        host.serve_until_signalled()


def drive(
    connect: Annotated[str, typer.Option("--connect", metavar="ADDRESS", help="Where spikeloop serve listens.")],
    env: EnvironmentOption,
    episodes: EpisodesOption = 10,
    max_steps: MaxStepsOption = None,
    seed: SeedOption = 0,
    trace: TraceOption = None,
    spikes: SpikesOption = False,
    slack_ms: SlackOption = 5.0,
    on_miss: MissOption = "hold",
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="AGENT", help="Compare each decision with this network's reference."),
    ] = None,
    timeout: TimeoutOption = 10.0,
    json: JsonOption = False,
) -> None:
    """Run an environment here against a network that spikeloop serve hosts."""
    _check_spikes(spikes, trace)
    expected = None if reference is None else load(reference)
    with contextlib.ExitStack() as stack:
        expected_hash = None if expected is None else expected.content_hash
        remote = stack.enter_context(
            RemoteAgent(connect, timeout_s=timeout, expect_network=expected_hash, name=f"drive {env}")
        )
        miss = _miss_policy(on_miss, remote.n_outputs)
        environment = stack.enter_context(
            GymnasiumEnvironment(env, n_inputs=remote.n_inputs, n_actions=remote.n_outputs, **_limited(max_steps))
        )
        window_s = remote.window_ms * remote.scale / 1e3
        facts_of_run = {
            "agent": remote.network_name,
            "network_hash": remote.network_hash,
            "profile": remote.profile,
            "environment": env,
            "seed": seed,
            "mode": f"paced x {remote.scale:g}" if remote.paced else "lock-step",
            "bridge": True,
            "host": connect,
            "host_software": remote.software,
        }
        _run_and_report(
            environment,
            remote,
            facts_of_run,
            meta={} if expected is None else {"network": _network_meta(expected)},
            reference=None if expected is None else stack.enter_context(launch(expected, "reference", seed=seed)),
            episodes=episodes,
            seed=seed,
            trace=trace,
            spikes=spikes,
            pace=Pace(window_s, slack_ms / 1e3, miss) if remote.paced else None,
            json=json,
        )


def _run_and_report(
    environment: GymnasiumEnvironment,
    decider: Decider,
    facts_of_run: dict[str, Any],
    *,
    meta: dict[str, Any],
    reference: Decider | None,
    episodes: int,
    seed: int,
    trace: Path | None,
    spikes: bool,
    pace: Pace | None,
    json: bool,
    shadow: bool = False,
    deployment: Deployment | None = None,
) -> None:
    with contextlib.ExitStack() as stack:
        writer = None
        if trace is not None:
            writer = stack.enter_context(TraceWriter(trace, {**facts_of_run, **meta, "versions": versions()}))
        update = stack.enter_context(progress(str(facts_of_run["agent"]), episodes, unit="episodes"))
        other = facts_of_run.get("compared_with", "reference")

        def on_step(episode: int, step: int, total: float) -> None:
            if step % 20 == 0:
                update(episode, note=f"step {step}, return {total:g}")

        def on_episode(episode: EpisodeResult) -> None:
            update(episode.episode + 1)
            agreed = f", {episode.agreed}/{episode.compared} as the {other}" if episode.compared else ""
            missed = f", {episode.missed} missed" if pace is not None else ""
            missed += f", {episode.parted} with other spikes" if shadow else ""
            say(
                f"episode {episode.episode:3d}  return {episode.total:8.1f}  {episode.length:4d} steps  "
                f"{episode.outcome}{agreed}{missed}"
            )

        result = run_episodes(
            environment,
            decider,
            episodes=episodes,
            seed=seed,
            reference=reference,
            trace=writer,
            spikes=spikes,
            shadow=shadow,
            pace=pace,
            on_step=on_step,
            on_episode=on_episode,
        )
    summary = summarised(result, pace, deployment, shadow=shadow)
    if json:
        emit({**facts_of_run, **summary, "versions": versions()})
    else:
        print_summary(facts_of_run, result, summary, pace)


def _check_spikes(spikes: bool, trace: Path | None) -> None:
    if spikes and trace is None:
        raise InvalidInputError("--spikes keeps spikes in the trace: give --trace FILE too.")


def _limited(max_steps: int | None) -> dict[str, int]:
    return {} if max_steps is None else {"max_episode_steps": max_steps}


def _check_pace(pace: float | None) -> None:
    if pace is not None and not 0 < pace <= MAX_PACE:
        raise InvalidInputError(
            f"--pace {pace:g} was given; it must be above 0 and at most {MAX_PACE:g} (1: network time is wall time)."
        )


def _miss_policy(text: str, n_actions: int) -> MissPolicy:
    policy = MissPolicy.parse(text)
    if policy.safe_action is not None and policy.safe_action >= n_actions:
        raise InvalidInputError(f"--on-miss {text} names action {policy.safe_action}; there are {n_actions}, from 0.")
    return policy


def planned(network: Network, profile: Profile) -> Deployment:
    """The plan; what is to be known of it goes to stderr."""
    deployment = plan_deployment(network, profile)
    for finding in deployment.findings:
        if finding.severity == "warning":
            say(f"warning: {finding}")
    return deployment


def _network_meta(network: Network) -> dict[str, Any]:
    return {"name": network.name, "hash": network.content_hash, "provenance": dict(network.provenance)}


class _StdinWatch(threading.Thread):
    """Ends this process with its parent: the host if there is one yet, else whatever is being opened."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.host: Host | None = None
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold when Python ends
                pass
        if self.host is not None:
            self.host.stop("its parent has ended")
        else:
            os.kill(os.getpid(), signal.SIGTERM)
