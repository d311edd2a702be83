"""The rules of every format, one file a parser of HCCL's, and those of the tables' other readers."""
