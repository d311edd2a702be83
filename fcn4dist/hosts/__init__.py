"""How the launchers of several hosts meet and act as one."""
