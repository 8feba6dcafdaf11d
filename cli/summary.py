"""What a run came to: as JSON, and as the table at its end."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..deploy.deployment import Deployment
from ..deploy.energy import estimate_cpu, estimate_spinnaker
from ..runtime.fidelity import wilson
from ..runtime.loop import RunResult
from ..runtime.pacing import Pace
from .output import table


def summarised(
    result: RunResult, pace: Pace | None, deployment: Deployment | None = None, *, shadow: bool = False
) -> dict[str, Any]:
    """The run as plain values, for JSON and for `print_summary`."""
    medians = {stage.removesuffix("_us"): value / 1e3 for stage, value in result.stage_medians_us().items()}
    if medians:
        medians["bridge"] = medians.pop("wall") - medians["stages"]
    summary: dict[str, Any] = {
        "episodes": [
            {
                "episode": e.episode,
                "seed": e.seed,
                "return": e.total,
                "length": e.length,
                "outcome": e.outcome,
                "compared": e.compared,
                "agreed": e.agreed,
                "missed": e.missed,
            }
            for e in result.episodes
        ],
        "mean_return": float(np.mean(result.returns)),
        "std_return": float(np.std(result.returns)),
        "decisions": result.decisions,
        "agreement": result.agreement,
        "compared": result.compared,
        "agreed": result.agreed,
        "ms_per_decision": medians,
        "ms_per_decision_p99": float(np.percentile(result.wall_us, 99)) / 1e3 if result.wall_us else None,
    }
    if pace is not None:
        summary |= {"missed": result.missed, "period_ms": pace.period_s * 1e3, "on_miss": str(pace.miss)}
    if shadow:
        summary["parted"] = result.parted
    if result.exchange is not None:
        summary["exchange"] = asdict(result.exchange)
    decided = len(result.timings)
    if decided and deployment is not None:
        use = deployment.use
        if use is not None and deployment.profile.target == "spinnaker":  # a real board, held between decisions too
            use = replace(use, waiting_ms=max(0.0, float(np.median(result.wall_us)) / 1e3 - use.ms))
        energy = estimate_cpu(result.cpu_us / 1e6).per(decided) if use is None else estimate_spinnaker(use)
        summary["energy_per_decision"] = {**energy.as_dict(), "text": str(energy)}
        summary["energy_of_a_board"] = use is not None  # also where a virtual one stands for it
    return summary


def print_summary(facts_of_run: dict[str, Any], result: RunResult, summary: dict[str, Any], pace: Pace | None) -> None:
    """The table at the end of a run."""
    returns = result.returns
    spread = f"mean {summary['mean_return']:.1f}, std {summary['std_return']:.1f}, {min(returns):g} to {max(returns):g}"
    rows: list[tuple[str, str]] = [("return", spread)]
    if result.agreement is not None:
        low, high = wilson(result.agreed, result.compared)
        rows.append(
            (
                f"agreement with the {facts_of_run.get('compared_with', 'reference')}",
                f"{100 * result.agreement:.2f} % ({result.agreed} of {result.compared}; "
                f"95 %: {100 * low:.2f} to {100 * high:.2f})",
            )
        )
    if pace is not None:
        rows.append(("missed deadlines", f"{result.missed} of {result.decisions} ({pace.miss})"))
        rows.append(("period", f"{summary['period_ms']:.1f} ms"))
    if "parted" in summary:
        rows.append(("decisions with other spikes", f"{result.parted} of {result.compared}"))
    if "exchange" in summary:
        counts = ", ".join(f"{count} {name}" for name, count in summary["exchange"].items())
        rows.append(("datagrams and answers", counts))
    if "energy_per_decision" in summary:
        whose = "energy per decision, of a board" if summary["energy_of_a_board"] else "energy per decision"
        rows.append((whose, summary["energy_per_decision"]["text"]))
    stages = summary["ms_per_decision"]
    for stage in ("encode", "inject", "run", "read", "decode", "bridge"):
        if stage in stages:
            label = "bridge, and wait for the window" if stage == "bridge" and pace else stage
            rows.append((f"median ms per decision: {label}", f"{stages[stage]:.3f}"))
    if stages:
        whole = stages["stages"] + stages["bridge"]
        rows.append(("median ms per decision: all", f"{whole:.3f} (99 % under {summary['ms_per_decision_p99']:.3f})"))
    title = "{agent} on {profile}, {environment}, {mode}".format(**facts_of_run)
    table(f"{title}: {len(result.episodes)} episodes, {result.decisions} decisions", ["", "value "], rows)
