"""For tests alone: a CA that makes certificates right and wrong, connections that can be bent, peers that misbehave."""
