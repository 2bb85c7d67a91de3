"""Observers of the trace: recorders, sentences, pictures. They may import all of the core; it never imports them."""
