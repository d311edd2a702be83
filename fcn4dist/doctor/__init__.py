"""`fcn4dist doctor`: is this machine ready for this config? Every room answers a few questions; none imports MindSpore.

check         a Check: name, status, message, remedy; Surroundings: the machine's files and variables, or a test's
software      Python, MindSpore, CANN, NumPy, and whether MindSpore computes
machine       CPU, cores, memory, /dev/shm, clock
folders       the data set, the run folder and the disk under it
job           ports, left-over variables, the batch
hccl          its ports, its interface, other processes on the NPUs
ascend        NPUs and their links, hccl_rootinfo.json, the rank table
examination   all of them, in order
"""
