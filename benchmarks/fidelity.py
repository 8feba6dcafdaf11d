"""What a check costs: all of it, and each set of departures that an attribution simulates beside the target itself.

An ablation answers what the target would do without one of its departures. On NEST that is another deployment and all
observations once more; here it is a simulation. The ratio compares one decision of either, under the thesis' settings
(0.1 ms): NEST's with its spikes, as a check asks for them; what an attribution takes for each set that it simulates,
with its threads and all else that it does; and the mean over all sets of all departures but one, in one thread.
"""

from __future__ import annotations

import os
from time import perf_counter

import numpy as np
from common import interleaved, machine, measured_networks, observations, show, verdict
from spikeloop.deploy.mapping import plan
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Network
from spikeloop.runtime import check, launch
from spikeloop.runtime.fidelity.attribution import attribute, simulate

DECISIONS = 1_000
CHECK_BOUND_S, ABLATION_BOUND = 10.0, 50.0
BATCH = DECISIONS
NEST = "nest-iaf_psc_delta"
WINDOW_OF_BOUND = 20


def check_of_all(network: Network) -> list[tuple[str, ...]]:
    """Rows: reference and target on 1,000 observations, compared and explained."""
    states = observations(network, DECISIONS)
    rows = []
    for profile, settings in ((NEST, {}), ("spinnaker-converted", {"target": "spinnaker-twin"})):
        seconds = {}
        for explain in (True, False):
            check(network, profile, states[:20], settings=settings, explain=explain)  # loads compiled code
            times = []
            for _ in range(3 if profile == NEST else 1):
                started = perf_counter()
                report = check(network, profile, states, settings=settings, explain=explain)
                times.append(perf_counter() - started)
            seconds[explain] = float(np.median(times))
        bounded = profile == NEST and network.steps == WINDOW_OF_BOUND
        bound = verdict(seconds[True], CHECK_BOUND_S, at_most=True) if bounded else ""
        rows.append((f"check on {profile}, explained", f"{seconds[True]:.2f} s", "1", bound))
        rows.append(
            ("the same with --no-explain", f"{seconds[False]:.2f} s", f"{seconds[False] / seconds[True]:.2f}", "")
        )
        assert report.observations == DECISIONS
    return rows


def ablations(network: Network) -> list[tuple[str, ...]]:
    """Rows: a decision of NEST, and of the simulation of an ablation."""
    states = observations(network, BATCH)
    deployment = plan(network, load_profile(NEST))
    declared = [departure.kind for departure in deployment.profile.departures]
    sets = [[kind for kind in declared if kind != left_out] for left_out in declared]
    turn = {"states": 0, "sets": 0}

    def one(agent) -> None:
        turn["states"] += 1
        agent.decide(states[turn["states"] % BATCH], spikes=True)

    def batch() -> None:
        turn["sets"] += 1
        simulate(deployment, sets[turn["sets"] % len(sets)], states, spikes=False)

    with launch(network, NEST) as agent:
        rounds = [
            (
                interleaved({"nest": lambda: one(agent)}, 1, 100)["nest"],
                interleaved({"ours": batch}, 1, len(sets))["ours"],
            )
            for _ in range(6)
        ]
    nest = float(np.median(np.concatenate([pair[0] for pair in rounds])))
    ours = float(np.mean(np.concatenate([pair[1] for pair in rounds]))) / BATCH
    with launch(network) as reference:
        expected = np.asarray(reference.decide(states).action)
    spent = []
    for _ in range(5):
        started = perf_counter()
        sets_done = attribute(deployment, states, expected).subsets
        spent.append((perf_counter() - started) * 1e6 / BATCH / sets_done)
    inside = float(np.median(spent))
    ratio = nest / inside
    return [
        (
            "a decision of NEST at 0.1 ms",
            f"{nest:.0f} us",
            f"{ratio:.1f}",
            verdict(ratio, ABLATION_BOUND, at_most=False),
        ),
        ("of an ablation, in an attribution", f"{inside:.1f} us", "1", ""),
        ("of an ablation, simulated in one thread", f"{ours:.1f} us", f"{ours / inside:.2f}", ""),
    ]


def main() -> None:
    """Print the table."""
    os.environ["PYNEST_QUIET"] = "1"
    rows = []
    for name, network in measured_networks().items():
        mine = ablations(network) + check_of_all(network)
        rows += [(name if index == 0 else "", *row) for index, row in enumerate(mine)]
    show(
        f"A check of {DECISIONS:,} observations (medians)",
        ["network", "what", "time ", "ratio ", "bound"],
        rows,
        f"{machine()}, {os.cpu_count()} cores. 500 states of CartPole, twice. Of too much work, an attribution does "
        "some of them.",
    )


if __name__ == "__main__":
    main()
