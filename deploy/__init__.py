"""HOW a network gets there: preflight findings, the mapping to a Deployment, one backend per target."""

from .backend import Backend, Readout, Recording, Session
from .deployment import Deployment
from .findings import Finding
from .mapping import open_session, plan, preflight

__all__ = ["Backend", "Deployment", "Finding", "Readout", "Recording", "Session", "open_session", "plan", "preflight"]
