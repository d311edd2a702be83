"""The job: devices, rank tables, the plan and the supervisor. Nothing here imports MindSpore."""
