"""WHERE a network can run: the Profile schema, and one TOML file per profile."""

from .profile import Profile, load_profile, parse_settings, profiles

__all__ = ["Profile", "load_profile", "parse_settings", "profiles"]
