"""The version of the package; the engine's own version (vex_version) is the same."""

__version__ = "0.1.0"
