"""From an error or a record to what happened, why, and what can be done: a Diagnosis with a stable code."""
