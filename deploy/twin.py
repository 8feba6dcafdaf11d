"""The software twin of a deployment: a session in this process that decides as its target does.

Networks are trained under it, and where a network was, the twin rather than the reference says what it ought to decide.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..hardware_profiles.profile import Machine, Profile
from ..models.network import Network
from .backend import Session, Twinned, backend
from .deployment import Deployment

# What a profile says in words: of no consequence.
TEXTS = {
    "schema_version",
    "name",
    "summary",
    "source",
    "precision",
    "update_order",
    "departures",
    "contract",
    "targets",
}


def twin_of(deployment: Deployment) -> Session | None:
    """Open the twin: the reference where the profile promises exactness, else what the backend offers.

    Returns
    -------
    Session, or None
        None where no deterministic twin is known, as of a target that draws random numbers.
    """
    if deployment.exact:
        from .reference import ReferenceSession  # brings Numba

        return ReferenceSession(deployment.network)
    found = backend(deployment.profile.target)
    return found.twin(deployment) if isinstance(found, Twinned) else None


def training_facts(profile: Profile) -> dict[str, Any]:
    """What the provenance of a network says, under "trained_for", of the profile that it was trained for.

    The name, the settings that bear on a decision, and a SHA-256 (hex) of all of the profile that does.
    """
    # Of several targets that keep one contract, it does not matter which one it is.
    apart = {"limits", "machine", *(["target"] if profile.targets else [])}
    parts = profile.model_dump(exclude=TEXTS | apart, exclude_none=True)
    free = {"target", *type(profile.limits).model_fields, *Machine.model_fields}
    return {
        "profile": profile.contract or profile.name,
        "settings": {key: value for key, value in profile.settings().items() if key not in free},
        "hash": hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(),
    }


def trained_for(network: Network, profile: Profile) -> bool:
    """Whether the network's provenance says that it was trained for this profile, with these settings."""
    return network.provenance.get("trained_for") == training_facts(profile)
