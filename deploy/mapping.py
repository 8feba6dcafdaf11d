"""From a Network and a Profile to findings, a plan, and a session."""

from __future__ import annotations

from dataclasses import replace

from ..errors import PreflightError
from ..hardware_profiles.profile import Profile
from ..models.network import Network
from .backend import Session, backend
from .deployment import Deployment
from .findings import Finding


def preflight(network: Network, profile: Profile) -> list[Finding]:
    """What speaks against running `network` under `profile` (errors), or should be known of it."""
    findings = [*_encoder_findings(network), *_limits(network, profile)]
    return findings + backend(profile.target).preflight(network, profile)


def plan(network: Network, profile: Profile) -> Deployment:
    """Map `network` under `profile`: what the target will get, before anything runs.

    Raises
    ------
    PreflightError
        If the preflight finds an error; it carries all findings.
    """
    findings = preflight(network, profile)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more: spikeloop plan lists them)" if len(errors) > 1 else ""
        raise PreflightError(f"'{network.name}' cannot run under '{profile.name}': {errors[0]}{more}", findings)
    deployment = backend(profile.target).plan(network, profile)
    return replace(deployment, findings=tuple(findings))


def open_session(deployment: Deployment, seed: int = 0) -> Session:
    """Take the deployment's target and build the deployment on it."""
    return backend(deployment.profile.target).open(deployment, seed)


def _encoder_findings(network: Network) -> list[Finding]:
    encoder = network.encoder
    if encoder.kind != "current" and not encoder.two_neurons:
        return [
            Finding(
                "info",
                f"The encoder ('{encoder.kind}') sends spikes, which carry no sign: negative observations give none.",
                "Where signs matter, use two_neurons=True.",
            )
        ]
    return []


def _limits(network: Network, profile: Profile) -> list[Finding]:
    neurons, synapses = sum(network.sizes), sum(layer.synapses for layer in network.layers)
    findings = []
    for what, needed, available in (
        ("neurons", neurons, profile.limits.max_neurons),
        ("synapses", synapses, profile.limits.max_synapses),
    ):
        if needed > available:
            findings.append(
                Finding(
                    "error",
                    f"The network has {needed} {what}, the profile allows {available}.",
                    f"Use a smaller network, or --set max_{what}={needed} if the machine can take it.",
                    needed=needed,
                    available=available,
                )
            )
    return findings
