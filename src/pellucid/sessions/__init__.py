"""What connections share: sessions to resume, the keys of tickets, early data seen, external PSKs.

The one room of the core that takes locks.
"""

from pellucid.sessions.client import ClientSession, ClientSessionStore, MemorySessionStore, SessionKey
from pellucid.sessions.early_data import ReplayGuard, StrikeRegister
from pellucid.sessions.psk import ExternalPsk, Psk
from pellucid.sessions.server import ServerSession
from pellucid.sessions.tickets import MemoryServerSessions, ServerSessions, TicketKeys

__all__ = [
    "ClientSession",
    "ClientSessionStore",
    "ExternalPsk",
    "MemoryServerSessions",
    "MemorySessionStore",
    "Psk",
    "ReplayGuard",
    "ServerSession",
    "ServerSessions",
    "SessionKey",
    "StrikeRegister",
    "TicketKeys",
]
