"""Peers that misbehave on purpose, one named fault each: to see what a program does when it meets them.

`FaultyServer(name)` and `FaultyClient(name)` are our own stack, bent; FAULTS says what there is. Never in production:
nothing outside `pellucid.testing` and the command line reaches this.
"""

from pellucid.testing.faults.client import FaultyClient, Heard
from pellucid.testing.faults.fault import Fault, Kind, Needs
from pellucid.testing.faults.registry import FAULTS
from pellucid.testing.faults.server import FaultyServer

__all__ = ["FAULTS", "Fault", "FaultyClient", "FaultyServer", "Heard", "Kind", "Needs"]
