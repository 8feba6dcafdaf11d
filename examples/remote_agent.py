"""The network in another process: what `spikeloop drive` does, by hand.

Start the host first:  spikeloop serve mountaincar --on nest-exact --bind tcp://127.0.0.1:5560
"""

import sys

import gymnasium
from spikeloop import RemoteAgent


def main(address: str = "tcp://127.0.0.1:5560") -> None:
    """Run one episode against the host at `address`."""
    env = gymnasium.make("MountainCar-v0")
    with RemoteAgent(address) as agent:
        print(f"{agent.network_name} on {agent.profile}, {agent.steps} steps a decision")
        observation, _ = env.reset(seed=1)
        agent.reset(seed=1)
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(agent.decide(observation).action)
            total += float(reward)
            done = terminated or truncated
    env.close()
    print(f"return {total:g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
