"""Distillation: a spiking network learns to act as a teacher does, under the dynamics of the target it is meant for.

    python -m spikeloop.training.distil --env CartPole-v1 --for nest-iaf_psc_delta --steps 20 -o cartpole.spk

The student trains under the target's own dynamics (`targets`) and always acts as the target's software twin: what is
judged is what will be deployed. Round 0 collects episodes of the teacher, later rounds episodes of the student; the
teacher says what it would have done in every state seen (DAgger). In each round the student trains on all states so
far. Kept is the round of the best mean return in validation; among equals, the one that agrees most with the teacher.

References
----------
Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning"
(DAgger), AISTATS 2011, algorithm 3.1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..bridges.environments import GymnasiumEnvironment
from ..deploy.twin import training_facts
from ..errors import MissingPackageError, SpikeloopError
from ..hardware_profiles.profile import Profile, load_profile, parse_settings
from ..models.network import Network
from ..models.stimulus import FloatArray
from ..runtime.agent import Agent
from .arguments import parse, run_as_script
from .evaluation import Policy, largest, margins, run_episodes, summary
from .storage import keep, usable
from .teachers import Teacher, teacher_facts, teacher_from
from .verification import can_verify, target_of, twin, verified

try:
    import torch
    from torch import Tensor
    from torch.nn.functional import cross_entropy

    from .settings import checked, episode_seed, positive, versions, within
    from .student import NeuronSettings, Student, StudentSettings
    from .targets import student_for
except ModuleNotFoundError:
    raise MissingPackageError.needs("Training", "PyTorch", "training") from None

Report = Callable[[str], None]
# What a target is made of, and worth knowing the version of.
SIMULATORS = {"nest": ["nest-simulator"], "spinnaker": ["sPyNNaker"], "spinnaker-virtual": ["sPyNNaker", "unicorn"]}


@dataclass(frozen=True, slots=True)
class Settings:
    """Distil a teacher into a spiking network for a target, and write it as a network file.

    Parameters
    ----------
    env : str
        The environment, with discrete actions.
    for_ : str
        The profile that the network is for, by name or as a file: the student trains under its dynamics.
    set_ : tuple of str
        Settings of the profile to override, KEY=VALUE each.
    teacher : str
        Who is imitated: "computed" (the environment's own, where it has one), a file of a conventional network (ours,
        Stable-Baselines3's, a state_dict), a network file or a bundled agent's name, or a training run's folder.
    seed : int
        Of weights, batches, exploration and training episodes. The same seed gives the same network, bit by bit, on
        the same machine with the same versions.
    output : Path, optional
        Where to write the network file; its stem becomes the network's name.
    force : bool
        Replace the output file if it exists.
    verify : bool, optional
        At the end, compare the target itself with its twin and play some episodes on it; needs the target here.
        Unless given, it is done where it can be and the target is none that runs in this process.
    hidden : tuple of int
        Neurons of each hidden layer.
    steps : int
        Length of a decision's window.
    threshold : float
        The neuron's; see `spikeloop.models.Neuron`.
    reset : "subtract" or "zero", optional
        What a spike does to the potential: the profile's, or "subtract" where it leaves the choice.
    membrane_decay, synapse_decay : float, optional
        The neuron's: the profile's, or 1 and 0 where it leaves the choice.
    surrogate_scale : float
        Steepness of the surrogate derivative at the threshold.
    rounds : int
        Of collecting, then training.
    episodes : int
        Collected in each round.
    explore : float
        Share of the actions drawn at random while collecting, so that states off the beaten track are seen.
    updates : int
        Gradient steps in each round.
    batch_size : int
        States in a gradient step.
    learning_rate : float
        Adam's, at the start of a round; it falls to 0 by a cosine until the round's end.
    margin : float
        The output potential by which the teacher's action should exceed every other.
    margin_weight : float
        Of the penalty for a smaller margin.
    range_weight : float
        Of the penalty for weights that could drive a neuron beyond the target's range, where the target has one.
    validation_episodes : int
        Played after each round, to find the best.
    evaluation_episodes, evaluation_seed : int
        Episodes for the figures in the file, and the first one's seed.
    """

    env: str = "CartPole-v1"
    for_: str = "reference"
    set_: tuple[str, ...] = ()
    teacher: str = "computed"
    seed: int = 1
    output: Path | None = None
    force: bool = False
    verify: bool | None = None
    hidden: tuple[int, ...] = (16, 16)
    steps: int = 10
    threshold: float = 1.0
    reset: Literal["subtract", "zero"] | None = None
    membrane_decay: float | None = None
    synapse_decay: float | None = None
    surrogate_scale: float = 10.0
    rounds: int = 6
    episodes: int = 20
    explore: float = 0.1
    updates: int = 1000
    batch_size: int = 256
    learning_rate: float = 0.01
    margin: float = 5.0
    margin_weight: float = 1.0
    range_weight: float = 1.0
    validation_episodes: int = 50
    evaluation_episodes: int = 100
    evaluation_seed: int = 10_000

    def __post_init__(self) -> None:
        checked(self)
        within(self, 0.0, 1.0, "explore")
        within(self, 1e-12, 1e6, "learning_rate", "surrogate_scale")
        within(self, 0.0, 1e6, "margin", "margin_weight", "range_weight")
        within(self, 0, 10**9, "evaluation_seed")
        positive(self, "steps", "rounds", "episodes", "updates", "batch_size")
        positive(self, "validation_episodes", "evaluation_episodes")

    def profile(self) -> Profile:
        """The profile that the network is for."""
        return load_profile(self.for_, parse_settings(self.set_))


def train(settings: Settings, report: Report = lambda line: None) -> Network:
    """Train, evaluate and return the network, with its provenance; one line per round goes to `report`.

    Sets torch to one thread, for good.
    """
    # More would only wait for each other; and NEST shares OpenMP's setting with torch, and crashes when it is raised.
    torch.set_num_threads(1)
    profile = settings.profile()
    with GymnasiumEnvironment(settings.env) as env:
        n_inputs, n_actions = env.spaces.n_inputs, env.spaces.n_actions
    teacher = teacher_from(settings.teacher, settings.env, n_inputs, n_actions)
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    first_seed = episode_seed(settings.seed, 0)
    validation_seed = first_seed + settings.rounds * settings.episodes

    student = student_for(
        profile,
        StudentSettings(
            sizes=(n_inputs, *settings.hidden, n_actions),
            steps=settings.steps,
            neuron=NeuronSettings(settings.threshold, settings.reset, settings.membrane_decay, settings.synapse_decay),
            surrogate_scale=settings.surrogate_scale,
            range_weight=settings.range_weight,
        ),
        generator,
    )
    twin(student.to_network(), profile)  # or there is none, which is better known now
    verify = can_verify(settings.verify, student.to_network(), profile, report)

    policy: Policy = teacher.actions
    seen: list[FloatArray] = []
    labels: list[NDArray[np.int64]] = []
    best: tuple[tuple[float, float], Network] | None = None
    for number in range(settings.rounds):
        started = time.monotonic()
        collect = explorer(policy, settings.explore, n_actions, rng)
        seed = first_seed + number * settings.episodes
        seen.append(run_episodes(settings.env, collect, settings.episodes, seed).observations)
        labels.append(teacher.actions(seen[-1]))
        if number == 0:  # the weights learnt on it must keep their meaning
            student.standardise(seen[0])
        states = np.concatenate(seen)
        loss = fit(student, states, np.concatenate(labels), settings, generator)
        network = student.to_network()
        agent = twin(network, profile)
        tried = evaluated(agent, settings.env, settings.validation_episodes, validation_seed, teacher)
        sure = "margin {margin_median:.1f} (5 %: {margin_p05:.1f}), ".format_map(tried) if has_margins(agent) else ""
        report(
            f"round {number}: {len(states)} states, loss {loss:.4f}, return {tried['mean_return']:.2f} "
            f"(least {tried['min_return']:.0f}), agreement {tried['agreement_with_teacher']:.2%}, "
            f"{sure}{time.monotonic() - started:.0f} s"
        )
        score = tried["mean_return"], tried["agreement_with_teacher"]
        if best is None or score >= best[0]:
            best = score, network
        policy = partial(deciding, agent)

    assert best is not None
    name = settings.output.stem if settings.output else "unnamed"
    facts = provenance(settings, best[1], teacher, verify)
    report_results(facts, report)
    return replace(best[1], name=name, provenance=facts)


def deciding(agent: Agent, observations: FloatArray) -> NDArray[np.int64]:
    """What an agent does: actions [n] for observations [n, n_inputs]."""
    return np.asarray(agent.decide(observations).action)


def explorer(policy: Policy, share: float, n_actions: int, rng: np.random.Generator) -> Policy:
    """`policy`, with a share of its actions drawn at random."""

    def explore(observations: FloatArray) -> NDArray[np.int64]:
        chosen = policy(observations)
        drawn = rng.integers(n_actions, size=len(chosen))
        return np.where(rng.random(len(chosen)) < share, drawn, chosen)

    return explore


def fit(
    student: Student, states: FloatArray, labels: NDArray[np.int64], settings: Settings, generator: torch.Generator
) -> float:
    """One round's gradient steps, on states [n, n_inputs] and the teacher's actions [n]; returns the mean loss."""
    x, label = torch.from_numpy(states), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(student.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.updates)
    total = 0.0
    for _ in range(settings.updates):
        batch = torch.randint(len(x), (settings.batch_size,), generator=generator)
        loss = loss_of(student(x[batch]), label[batch], settings) + student.penalty()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total += loss.item()
    return total / settings.updates


def loss_of(potentials: Tensor, label: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of the potentials [n, n_actions] plus the penalty for a small margin, averaged."""
    right = potentials.gather(1, label[:, None])
    others = potentials.scatter(1, label[:, None], -torch.inf).max(dim=1).values
    lacking = (settings.margin - (right[:, 0] - others)).clamp(min=0.0)
    return cross_entropy(potentials, label) + settings.margin_weight * lacking.mean()


def evaluated(agent: Agent, env_id: str, episodes: int, first_seed: int, teacher: Teacher) -> dict[str, Any]:
    """Play and summarise, as plain values for a header.

    Agreement is the share of the states that the agent visited in which the teacher would do the same. The margins
    (5 % quantile and median), if there are any, are those of the outputs there, in the decoder's units.
    """
    values: list[FloatArray] = []

    def act(observations: FloatArray) -> NDArray[np.int64]:
        values.append(agent.decide(observations).output)
        return largest(values[-1])

    ran = run_episodes(env_id, act, episodes, first_seed)
    sure: dict[str, float] = {}
    if has_margins(agent):
        margin = margins(np.concatenate(values))
        sure["margin_p05"] = round(float(np.quantile(margin, 0.05)), 6)
        sure["margin_median"] = round(float(np.median(margin)), 6)
    agrees = ran.actions == teacher.actions(ran.observations)
    return {
        "env": env_id,
        "target": "reference" if agent.deployment.exact else f"twin of {agent.profile}",
        "episodes": episodes,
        "first_seed": first_seed,
        **summary(ran.returns),
        "agreement_with_teacher": round(float(agrees.mean()), 6),
        **sure,
        "returns": ran.returns.tolist(),
    }


def has_margins(agent: Agent) -> bool:
    """Whether the agent's outputs say how sure it is: a decision circuit answers with the chosen action alone."""
    return agent.deployment.profile.mapping != "decision_circuit"


def provenance(settings: Settings, network: Network, teacher: Teacher, verify: bool) -> dict[str, Any]:
    """Where the network came from and how good it is, as plain values."""
    profile, neuron = settings.profile(), network.neuron
    apart = {"for_", "set_", "teacher", "seed", "output", "force", "verify"}
    if profile.circuit is None:
        apart.add("range_weight")  # of no effect
    hyperparameters = {name: value for name, value in asdict(settings).items() if name not in apart}
    hyperparameters |= {"hidden": list(settings.hidden), "reset": neuron.reset}
    hyperparameters |= {"membrane_decay": neuron.membrane_decay, "synapse_decay": neuron.synapse_decay}
    played = run_episodes(settings.env, teacher.actions, settings.evaluation_episodes, settings.evaluation_seed)
    facts: dict[str, Any] = {
        "algorithm": "imitation of a teacher by dataset aggregation (DAgger)",
        "script": "spikeloop.training.distil",
        "trained_for": training_facts(profile),
        "seed": settings.seed,
        "hyperparameters": hyperparameters,
        "teacher": {**teacher_facts(teacher), **summary(played.returns)},
        "evaluation": evaluated(
            twin(network, profile), settings.env, settings.evaluation_episodes, settings.evaluation_seed, teacher
        ),
        "versions": versions(),
    }
    if verify:
        facts["versions"] |= {name: version(name) for name in SIMULATORS.get(profile.target, ())}
        try:
            facts["verification"] = verified(network, profile, settings.env, settings.evaluation_seed)
        except SpikeloopError as error:  # the student is trained; whoever opens it next can verify it
            facts["verification"] = {"target": target_of(profile), "failed": str(error)}
    return facts


def report_results(facts: Mapping[str, Any], report: Report) -> None:
    """What the kept network came to, in a line for each who acted."""
    of_teacher, of_student, of_target = facts["teacher"], facts["evaluation"], facts.get("verification", {})
    report(f"teacher: return {of_teacher['mean_return']:.2f}; {of_teacher['description']}")
    report(
        f"student, as {of_student['target']}: return {of_student['mean_return']:.2f} (least "
        f"{of_student['min_return']:.0f}) in {of_student['episodes']} episodes, agreement with the teacher "
        f"{of_student['agreement_with_teacher']:.2%}"
    )
    if "failed" in of_target:
        report(f"{of_target['target']} itself could not be asked: {of_target['failed']}")
    elif of_target:
        report(
            f"{of_target['target']} itself: return {of_target['mean_return']:.2f} in {of_target['episodes']} episodes, "
            f"agreement with its twin {of_target['agreement_with_twin']:.2%} of {of_target['states']} states"
        )


# --- the command line -------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train as the command line says, write the network file, and return what it came to."""
    settings = parse(Settings, "spikeloop train distil", argv)
    output = usable(settings.output, settings.force)
    torch.use_deterministic_algorithms(True)
    network = train(settings, report=lambda line: print(line, flush=True))
    keep(network, output)
    print(f"wrote {output}: {network!r}")
    told = ("trained_for", "teacher", "evaluation", "verification")
    facts = {name: dict(network.provenance[name]) for name in told if name in network.provenance}
    del facts["evaluation"]["returns"]
    return {"file": str(output), "network_hash": network.content_hash, **facts}


if __name__ == "__main__":
    run_as_script(main)
