"""A run's folder: its paths and state, and how it is drawn for a terminal."""
