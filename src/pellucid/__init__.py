"""TLS 1.3 you can see through."""
