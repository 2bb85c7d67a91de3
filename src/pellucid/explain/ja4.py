"""JA4 under the name that observers know: what is computed is in `messages`, where a server's resolver has it too."""

from pellucid.messages.ja4 import Ja4, ja4

__all__ = ["Ja4", "ja4"]
