"""What is wrong with a target that does not do what its profile declares: the fault, found from its spikes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...deploy.departures.adoption import departed, effective
from ...deploy.departures.dynamics import Dynamics
from ...deploy.deployment import Deployment
from ...models.stimulus import FloatArray, Stimulus
from .changes import Change, Indices, Outcome, applied, delay_steps, planned, simulate, some_of
from .lost_spikes import Loss, explained_by_one, outputs_explained, share_lost
from .probe import OUTPUT_TOLERANCE, Candidate, explaining, explaining_outputs
from .report import Fault, Record

MOST_FAULTS = 3
SCREENED = 60  # observations on which delays of whole layers are tried first
VERIFIED = 6  # candidates that the whole network is simulated with
TRIED_WITHIN = 9  # values between a candidate's bounds, and again around the best of them
ZOOMS = 3
# A neuron is at fault by itself if a single change leaves at most this share of its differing steps.
LEFT = 0.1
# Lost spikes: the share of first divergences that one spike less must explain, where more of them are lost also two.
BY_ONE = 0.7
FEW = 3  # neurons that may have faults of their own


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """What there is to explain."""

    stimulus: Stimulus
    given: Outcome
    seed: int
    steps: int
    tolerance: float
    trains: int  # that differ from what was expected at first

    def simulate(self, dynamics: Dynamics, chosen: Indices | None = None) -> Outcome:
        stimulus = self.stimulus if chosen is None else some_of(self.stimulus, chosen)
        return simulate(dynamics, stimulus, self.steps, self.seed)

    def wrong_trains(self, outcome: Outcome, chosen: Indices | None = None) -> list[NDArray[np.bool_]]:
        """Of each layer, [n, neurons]: trains that are not as given."""
        which = slice(None) if chosen is None else chosen
        return [
            (ours[which] != theirs).any(axis=1)
            for ours, theirs in zip(self.given.rasters, outcome.rasters, strict=True)
        ]

    def wrong_outputs(self, outcome: Outcome, chosen: Indices | None = None) -> NDArray[np.bool_]:
        """[n, n_out]."""
        which = slice(None) if chosen is None else chosen
        difference = np.abs(self.given.outputs[which] - outcome.outputs)
        return np.asarray(difference > self.tolerance * np.maximum(1.0, np.abs(outcome.outputs)))

    def left(self, outcome: Outcome, chosen: Indices | None = None) -> int:
        """Trains and outputs that are not as given."""
        trains = sum(int(np.count_nonzero(wrong)) for wrong in self.wrong_trains(outcome, chosen))
        return trains + int(np.count_nonzero(self.wrong_outputs(outcome, chosen)))


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """A change, the dynamics with it, and what it leaves."""

    candidate: Candidate
    dynamics: Dynamics
    outcome: Outcome
    left: int
    alternatives: int = 0


def diagnose(
    deployment: Deployment,
    dynamics: Dynamics,
    states: FloatArray,
    given: Record,
    expected: Record,
    *,
    seed: int = 0,
) -> tuple[Fault, ...]:
    """What would explain that a target differs from the simulation with all of its declared departures.

    Parameters
    ----------
    deployment : Deployment
    dynamics : Dynamics
        With all declared departures, which draw no random numbers.
    states : float64 [n, n_inputs]
    given, expected : Record
        What the target did, and what `dynamics` do.
    seed : int
        Of random encoders, as both were given it.

    Returns
    -------
    Nothing, if all spike trains are as expected, and all outputs up to 1e-9 of the threshold. Else the fault that
    explains the difference; several, if one does not explain all of it. The last of several may be "unknown": what the
    others leave.

    Notes
    -----
    Single changes are tried: a kind of departure that is not declared, the delay of a layer, then, of the neurons of
    the lowest layer that differs, each weight, bias, threshold and synapse's delay (`probe`). Each that would explain
    the neuron is verified in a simulation of the whole network. Spikes lost at random (`lost_spikes`) are what is left
    where many neurons differ, and no change of one explains all that this one did.
    """
    network = deployment.network
    stimulus = network.encoder.encode(network.observations(states), network.steps, seed, 0)
    expectation = Outcome(expected.outputs, expected.rasters)
    tolerance = OUTPUT_TOLERANCE * network.neuron.threshold
    case = _Case(stimulus, Outcome(given.outputs, given.rasters), seed, network.steps, tolerance, 0)
    trains = sum(int(np.count_nonzero(wrong)) for wrong in case.wrong_trains(expectation))
    case = replace(case, trains=trains)
    if not case.left(expectation):
        return ()
    undeclared = _undeclared(case, deployment)
    if undeclared is not None:
        return (undeclared,)
    faults: list[Fault] = []
    outcome, left = expectation, case.left(expectation)
    at_first = left
    while left and len(faults) < MOST_FAULTS:
        found = _delayed(case, dynamics, outcome)
        if found is not None and found.left > left / 2:
            found = None
        if found is None or found.left > LEFT * left:
            single = _single(case, dynamics, outcome)
            found = min((one for one in (found, single) if one is not None), key=lambda one: one.left, default=None)
            if found is None:
                lost = _lost(case, dynamics, outcome)
                if lost is not None:
                    return (*faults, lost)
        if found is None or found.left >= left:
            break
        explained = sum(
            int(np.count_nonzero(before & ~after))
            for before, after in zip(case.wrong_trains(outcome), case.wrong_trains(found.outcome), strict=True)
        )
        faults.append(_told(found, dynamics, explained, case.trains))
        dynamics, outcome, left = found.dynamics, found.outcome, found.left
        if left < 0.02 * at_first:  # of a parameter known within bounds, the last trains are a matter of digits
            return tuple(faults)
    if left:
        faults.append(_unknown(case, dynamics, outcome))
    return tuple(faults)


# --- candidates -------------------------------------------------------------------------------------------------------


def _undeclared(case: _Case, deployment: Deployment) -> Fault | None:
    """A kind of departure that the profile does not declare, if it explains everything."""
    declared = [departure.kind for departure in deployment.profile.departures]
    for kind in effective(deployment):
        if kind in declared:
            continue
        found = departed(deployment, [*declared, kind])
        if not found.random and not case.left(case.simulate(found)):
            text = f"the profile also departs by '{kind}', which it does not declare"
            return Fault("undeclared", text, explained_trains=case.trains, differing_trains=case.trains)
    return None


def _delayed(case: _Case, dynamics: Dynamics, outcome: Outcome) -> _Found | None:
    """The change of a whole layer's delay that leaves least; None if none of them helps."""
    differs = np.any(
        [wrong.any(axis=1) for wrong in (*case.wrong_trains(outcome), case.wrong_outputs(outcome))], axis=0
    )
    some = np.flatnonzero(differs)
    some = some[np.linspace(0, len(some) - 1, min(SCREENED, len(some))).astype(np.int64)]
    screened = []
    for layer in range(len(dynamics.layers)):
        for by in delay_steps(dynamics):
            change = Change("delay", layer, None, None, float(by))
            if dynamics.layers[layer].delay + by >= 1 and (layer or dynamics.input_at + by >= 0):
                changed = applied(dynamics, change)
                screened.append((case.left(case.simulate(changed, some), some), change, changed))
    if not screened:
        return None
    least, change, changed = min(screened, key=lambda entry: entry[0])
    if least >= case.left(Outcome(outcome.outputs[some], tuple(raster[some] for raster in outcome.rasters)), some):
        return None
    found = case.simulate(changed)
    alternatives = sum(entry[0] == least == 0 for entry in screened) - 1
    return _Found(Candidate(change, change.by, change.by, 0), changed, found, case.left(found), max(0, alternatives))


def _lowest(case: _Case, outcome: Outcome) -> tuple[int, NDArray[np.bool_]]:
    """The lowest layer that differs, and where: [n, neurons]."""
    layers = case.wrong_trains(outcome)
    layer = next((index for index, wrong in enumerate(layers) if wrong.any()), len(layers))
    return layer, case.wrong_outputs(outcome) if layer == len(layers) else layers[layer]


def _shows_neurons(dynamics: Dynamics, layer: int, fires: bool) -> bool:
    """Whether single neurons of a layer can be looked at: trains of one neuron each, or outputs that are linear."""
    if layer >= len(dynamics.layers) or any(copies != 1 for copies in dynamics.copies[max(0, layer - 1) : layer + 1]):
        return False
    return fires or not (dynamics.answers_only or dynamics.layers[layer].fixed is not None)


def _single(case: _Case, dynamics: Dynamics, outcome: Outcome) -> _Found | None:
    """The single change of the neuron that differs most often; None if none explains what this one did."""
    layer, wrong = _lowest(case, outcome)
    if not _shows_neurons(dynamics, layer, fires=layer < len(outcome.rasters)):
        return None
    neuron = int(wrong.sum(axis=0).argmax())
    neurons = int(np.count_nonzero(wrong.any(axis=0)))
    if layer == len(outcome.rasters):
        missing = case.given.outputs[:, neuron] - outcome.outputs[:, neuron]
        candidates = explaining_outputs(dynamics, case.stimulus, case.steps, neuron, missing)
        most = LEFT * np.count_nonzero(wrong[:, neuron])
    else:
        train, simulated = (one.rasters[layer][:, :, neuron] for one in (case.given, outcome))
        candidates = explaining(dynamics, case.stimulus, layer, neuron, train, simulated)
        most = LEFT * np.count_nonzero(train != simulated)
    best = [one for one in candidates if one.wrong == candidates[0].wrong and one.wrong <= most][:VERIFIED]
    everywhere = [
        replace(one, change=replace(one.change, neuron=None)) for one in best if one.change.kind == "threshold"
    ]
    if neurons > FEW and wrong[:, neuron].sum() < 4 * np.median(wrong.sum(axis=0)[wrong.any(axis=0)]):
        best = []  # a few chance events can be made to fit: but then many neurons have such
    verified = [_verified(case, dynamics, one) for one in best]
    if neurons > FEW:
        of_all = (_verified(case, dynamics, one) for one in everywhere)
        verified += [one for one in of_all if one.left < case.left(outcome) / 2]
    if not verified:
        return None
    verified.sort(key=lambda one: one.left)
    equal = {replace(one.candidate.change, by=0.0) for one in verified if one.left == verified[0].left}
    return replace(verified[0], alternatives=len(equal) - 1)


def _verified(case: _Case, dynamics: Dynamics, candidate: Candidate) -> _Found:
    """The candidate at the value between its bounds with which the whole network leaves least."""
    low, high = candidate.low, candidate.high
    if candidate.change.kind == "weight" or candidate.change.kind == "bias":
        before = planned(dynamics, candidate.change)
        if low <= -before <= high and high - low < abs(before) / 2:  # what is missing is not just smaller
            candidate = replace(candidate, change=replace(candidate.change, by=-before))
            low = high = -before
    best: _Found | None = None
    for _ in range(ZOOMS if low < high else 1):
        values = np.linspace(low, high, TRIED_WITHIN) if low < high else np.array([candidate.change.by])
        # The middle first: of equal ones it is taken.
        for by in values[np.argsort(np.abs(values - (low + high) / 2), kind="stable")].tolist():
            change = replace(candidate.change, by=by)
            changed = applied(dynamics, change)
            outcome = case.simulate(changed)
            left = case.left(outcome)
            if best is None or left < best.left:
                best = _Found(replace(candidate, change=change), changed, outcome, left)
            if not left:
                return best
        assert best is not None, "there is at least one value"
        part = (high - low) / (TRIED_WITHIN - 1)
        low, high = best.candidate.change.by - part, best.candidate.change.by + part
    assert best is not None, "there is at least one value"
    return best


def _lost(case: _Case, dynamics: Dynamics, outcome: Outcome) -> Fault | None:
    """Spikes lost at random, if they explain what differs."""
    layer, wrong = _lowest(case, outcome)
    if layer == 0 or any(copies != 1 for copies in dynamics.copies):
        return None
    if layer == len(outcome.rasters):
        explained, looked_at = outputs_explained(dynamics, case.given, outcome, np.flatnonzero(wrong.any(axis=1)))
    else:
        explained, looked_at = explained_by_one(dynamics, case.stimulus, case.given, outcome, layer)
    if explained < BY_ONE * looked_at:
        return None
    losses = share_lost(dynamics, case.stimulus, case.given, outcome, layer, case.seed)
    if not losses:
        return None
    likeliest = losses[0]
    texts = [_lost_text(loss) for loss in losses]
    text = (
        f"{', or '.join(texts)}: one spike less explains {explained} of {looked_at} "
        f"{'outputs' if layer == len(outcome.rasters) else 'first divergences'} looked at"
    )
    return Fault(
        "lost spikes",
        text,
        planned=dynamics.loss,
        found=likeliest.share,
        low=likeliest.low,
        high=likeliest.high,
        explained_trains=round(case.trains * explained / looked_at),
        differing_trains=case.trains,
    )


# --- in words ---------------------------------------------------------------------------------------------------------


def _told(found: _Found, dynamics: Dynamics, explained: int, trains: int) -> Fault:
    candidate, change = found.candidate, found.candidate.change
    before = planned(dynamics, change)
    after, low, high = before + change.by, before + candidate.low, before + candidate.high
    text = _delay_text(dynamics, change) if change.kind == "delay" else _value_text(change, before, after, low, high)
    if found.alternatives:
        others = f"{found.alternatives} other single change{'s' if found.alternatives > 1 else ''}"
        text += f"; {others} would explain as much"
    return Fault(
        change.kind, text, change.layer, change.neuron, change.source, before, after, low, high, explained, trains
    )


def _value_text(change: Change, before: float, after: float, low: float, high: float) -> str:
    where = "of all neurons" if change.neuron is None else f"of neuron {change.neuron}"
    what = f"the {change.kind} {where} in layer {change.layer}"
    if change.kind == "weight":
        source = f"neuron {change.source} of layer {change.layer - 1}" if change.layer else f"input {change.source}"
        what = f"the weight from {source} to neuron {change.neuron} of layer {change.layer}"
    if after == 0:
        return f"{what} is missing: 0 instead of {before:.5g}"
    relative = f"{(after / before - 1) * 100:+.1f} %; " if before else ""
    return f"{what} is {after:.5g} instead of {before:.5g} ({relative}between {low:.5g} and {high:.5g})"


def _delay_text(dynamics: Dynamics, change: Change) -> str:
    ticks, tick_ms = abs(round(change.by)), dynamics.tick_s * 1e3
    span = f"{'one tick' if ticks == 1 else f'{ticks} ticks'} ({ticks * tick_ms:g} ms)"
    rest = f"{span} {'longer' if change.by > 0 else 'less'} than planned"
    if change.source is not None:
        path = f"neuron {change.source} of layer {change.layer - 1} to neuron {change.neuron} of layer {change.layer}"
        return f"spikes from {path} take {rest}"
    if not change.layer:
        return f"the observation takes {rest} to reach layer 0"
    return f"spikes into layer {change.layer} take {rest}"


def _lost_text(loss: Loss) -> str:
    who = "each synapse for itself" if loss.per_synapse else "each for all neurons that it goes to"
    return f"about {loss.share * 100:.2g} % of spikes are lost ({loss.low * 100:.2g} to {loss.high * 100:.2g} %), {who}"


def _unknown(case: _Case, dynamics: Dynamics, outcome: Outcome) -> Fault:
    layer, wrong = _lowest(case, outcome)
    trains = sum(int(np.count_nonzero(one)) for one in case.wrong_trains(outcome))
    of = sum(raster.shape[0] * raster.shape[2] for raster in outcome.rasters)
    if layer == len(outcome.rasters):
        text = f"all spikes are as simulated, but {np.count_nonzero(wrong)} of {wrong.size} output values are not"
    else:
        neurons = int(np.count_nonzero(wrong.any(axis=0)))
        who = "1 neuron" if neurons == 1 else f"{neurons} neurons"
        text = f"{trains} of {of} spike trains are not as simulated, from layer {layer} on ({who} of it)"
    if _shows_neurons(dynamics, layer, fires=layer < len(outcome.rasters)):
        text += "; no single weight, bias, threshold or delay explains it, nor do lost spikes"
    else:
        text += "; no layer's delay explains it, and single neurons cannot be made out from what this target shows"
    return Fault("unknown", text, layer=layer, differing_trains=trains)
