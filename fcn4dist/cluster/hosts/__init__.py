"""Several hosts, one job: which host this one is, how the launchers meet, and what they tell each other."""
