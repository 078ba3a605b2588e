"""Tar shards: found, indexed, written, moved between workers, verified. No payload is ever decoded.

sources.py       names of tars -> tar files, local or behind URLs
streams/         sources of other kinds -> samples in order
pack.py          samples in order -> canonical tars
spool.py         spool: sources that are read in order -> plain tars -> SampleIndex
spool_units.py   its files, and the work on them
sample_index.py  SampleIndex: where every sample lies
keys.py          keys as raw buffers
combine.py       SampleIndex -> SampleIndex: concatenated, or a part of one
index.py         index: tar files -> SampleIndex
index_file.py    a SampleIndex as an Arrow file
layout.py        Layout: where a group is cut into shards, the order in one, and its compression
plan.py          SampleIndex + Partition -> which sample goes where in which shard
work.py          Work: what write_shards is to do
estimate.py      estimate: what that would cost, either way
ratio.py         how small compressed shards would be, by a part of them
exchange.py      which way it is done: from the source itself, or from a spool
copy.py          writes planned shards
journal.py       a job's own notes: which of its files are finished
job.py           one writer at a time, and only where nothing lies but its own unfinished work
store_job.py     the same in a store
claims.py        who writes which generation
folder_claims.py by locks
store_claims.py  by names that are written once
writer.py        write_shards: the first generation
manifest.py      Manifest, ShardInfo: what a generation consists of
fields.py        its JSON, field by field
shard_set.py     ShardSet: a generation, opened
generations.py   repartition: the next generation, moving only what changed workers
delta.py         what both this and compact write of a generation for a worker, and the commit
compact.py       compact: the next generation, its tars written anew without what moved away
prune.py         prune: generations that are no longer wanted, removed
export.py        index files of other tools, beside the tars
verify.py        every byte of a generation against its manifest
repair.py        lost indexes, made anew from tars
"""
