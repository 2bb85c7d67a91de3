"""Servers as they are operated, measured: what changes under them while clients come."""
