"""Ascend's devices, tools and HCCL rank tables; needs neither an NPU nor MindSpore."""
