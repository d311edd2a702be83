"""Stands for the wheel `hccl` of CANN, of which MindSpore reads the version."""

from types import SimpleNamespace

sys_version = SimpleNamespace(__sys_version__="9.1.0")
