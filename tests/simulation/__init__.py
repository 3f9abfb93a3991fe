"""The parent's real scheduler in a simulated world: no processes, no waiting, and each order from a seed."""
