"""Sockets, clocks, threads: TLS over TCP, blocking (`sync`, `listener`) and async (`aio`), from one I/O script."""
