"""A job on this host: its plan, its processes, and the supervisor that watches them."""
