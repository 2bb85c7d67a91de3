"""The algorithms: one record of implementations, and the objects they work on."""
