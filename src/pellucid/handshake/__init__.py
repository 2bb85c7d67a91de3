"""The state machine: messages in, actions out. Never a record, never a socket."""
