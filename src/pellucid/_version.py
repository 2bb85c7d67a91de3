"""The version, read by the build and by `pellucid --version`."""

__version__ = "0.1.0"
