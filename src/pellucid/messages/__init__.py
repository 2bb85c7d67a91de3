"""What was said: handshake messages and their extensions, as values."""
