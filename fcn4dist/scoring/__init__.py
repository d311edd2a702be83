"""Scores of log-mel clips by an exported file or a checkpoint, and the card that says what an exported file is."""
