"""HCCL rank tables: read, check, build, merge, convert and show them; never imports MindSpore.

schema    chips, formats, and the values: RankTable of Servers of Devices
read      a file as a Document: its JSON, its format, what it is mistaken for
check     a Document's Verdict for one chip, and its RankTable, in one pass of the parsers' rules in rules/
complete  what MindSpore's scheduler needs and other writers leave out
parse     the RankTable alone, also of a refused file; accept_document for those who start jobs
sources   servers from this host (discover, hccn), host files (hosts) or an inventory
build     servers as a RankTable with ranks, and a RankTable as JSON
merge, convert, show
"""
