"""Libraries × what they do over TLS: `python -m tests.ecosystem`, and the same cells as tests."""
