"""Ports for servers that are started in a moment."""

import random
import socket


def free_port() -> int:
    """Below those that systems hand out by themselves, to kernels and to browsers, which may come in between."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
