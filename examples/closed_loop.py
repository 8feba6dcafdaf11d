"""A bundled agent in one process: decide, act, look at the spikes."""

import gymnasium
import spikeloop


def main() -> None:
    """Run one episode and print what the network did."""
    network = spikeloop.load("cartpole")
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=1)
    total, spikes = 0.0, 0
    with spikeloop.launch(network, "nest-exact") as agent:
        done = False
        while not done:
            decision = agent.decide(observation, spikes=True)
            spikes += sum(int(counts.sum()) for counts in decision.spike_counts)
            observation, reward, terminated, truncated, _ = env.step(decision.action)
            total += float(reward)
            done = terminated or truncated
    env.close()
    print(f"{network.name}: return {total:g}, {spikes / total:.1f} spikes per decision")


if __name__ == "__main__":
    main()
