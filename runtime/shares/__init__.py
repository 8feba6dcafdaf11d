"""Many independent pieces of work: in this process, in processes side by side, or on a cluster, to the same result."""

from .run import run_shares

__all__ = ["run_shares"]
