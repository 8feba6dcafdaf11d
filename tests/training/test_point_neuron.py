"""The compiled layer of point neurons has the spikes and the gradient of the plain unrolled one."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")

from spikeloop.deploy.point_neuron import Constants  # noqa: E402
from spikeloop.training.point_neuron import fire  # noqa: E402

TICKS, N, FAN, NEURONS, SCALE = 60, 5, 4, 3, 4.0
PLAIN = Constants(
    ticks_per_step=10,
    input_at=7,
    delays=(4, 4),
    gain=0.1,
    decay=0.99,
    start=0.05,
    threshold=0.8,
    reset=-0.2,
    refractory=0,
    subtracts=False,
)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient / (SCALE * distance.abs() + 1) ** 2


def unrolled(before, after, arrivals, delay, constants):
    v = torch.full_like(after, constants.start)
    waiting = torch.zeros_like(after)
    spikes = []
    for k in range(TICKS):
        drive = constants.gain * (after if k >= constants.input_at else before)
        arriving = arrivals[k - delay] if arrivals is not None and k >= delay else 0.0
        moved = drive + constants.decay * v + arriving
        if constants.subtracts:
            waiting = (waiting - 1).clamp(min=0)
            resting = waiting > 0
        else:
            resting = waiting > 0
            moved = torch.where(resting, v, moved)
            waiting = (waiting - 1).clamp(min=0)
        distance = moved - constants.threshold
        spike = torch.where(resting, torch.zeros_like(v), Spike.apply(distance))
        spent = spike.detach()
        if constants.subtracts:
            v = moved - constants.threshold * spent
        else:
            v = moved * (1 - spent) + constants.reset * spent
        waiting = torch.where(spent > 0, torch.full_like(v, float(constants.refractory)), waiting)
        spikes.append(spike)
    return torch.stack(spikes)


@pytest.mark.parametrize("subtracts", [False, True])
@pytest.mark.parametrize("refractory", [0, 1, 5])
@pytest.mark.parametrize("first", [False, True])
def test_spikes_and_gradient(subtracts, refractory, first):
    constants = replace(PLAIN, subtracts=subtracts, refractory=refractory)
    generator = torch.Generator().manual_seed(refractory + 1)

    def draw(*shape, scale=1.0):
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()

    before, after = draw(N, NEURONS), draw(N, NEURONS, scale=2.0)
    arrivals = None if first else draw(TICKS, N, NEURONS, scale=0.3)
    weighting = torch.randn(TICKS, N, NEURONS, generator=generator, dtype=torch.float64)
    inputs = [before, after] + ([] if first else [arrivals])
    fast = fire(before, after, arrivals, 4, TICKS, constants, SCALE)
    slow = unrolled(before, after, arrivals, 4, constants)
    assert 0.01 < slow.mean() < 0.5
    torch.testing.assert_close(fast, slow, rtol=0, atol=0)
    for one, other in zip(
        torch.autograd.grad((fast * weighting).sum(), inputs),
        torch.autograd.grad((slow * weighting).sum(), inputs),
        strict=True,
    ):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
