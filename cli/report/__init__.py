"""The page: what checks found, as one HTML file that needs nothing else."""

from .page import write_page

__all__ = ["write_page"]
