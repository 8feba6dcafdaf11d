"""A network written by hand, checked on NEST: leaky neurons, spikes as input, spikes as output."""

import numpy as np
from spikeloop import Decoder, Dense, Encoder, Network, Neuron, check, save


def main() -> None:
    """Build it, check it, keep it."""
    rng = np.random.default_rng(0)
    network = Network(
        layers=(
            Dense(rng.normal(0.0, 1.0, (8, 20))),  # 4 inputs, two neurons each
            Dense(rng.normal(0.0, 0.5, (20, 3)), bias=np.array([0.1, 0.2, 0.0]), delay=2),
        ),
        steps=25,
        neuron=Neuron(threshold=0.8, reset="subtract", membrane_decay=0.9),
        encoder=Encoder("poisson", two_neurons=True, gain=0.5),
        decoder=Decoder("spike_count"),
        name="by hand",
        provenance={"seed": 0},
    )
    report = check(network, "nest-exact", rng.normal(0.0, 1.0, (200, 4)), seed=1)
    agreed = report.teacher_forced.agreed
    print(f"{agreed} of {report.observations} actions, {report.differing_trains} spike trains differ")
    save(network, "by-hand.spk")


if __name__ == "__main__":
    main()
