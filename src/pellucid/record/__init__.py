"""The record protocol (RFC 9846 §5): bytes to records to messages, and back."""
