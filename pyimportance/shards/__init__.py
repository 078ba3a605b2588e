"""Tar shards: found, indexed, written, moved between workers, verified. No payload is ever decoded.

keys.py          keys as raw buffers
sample_index.py  SampleIndex: where every sample lies
index_file.py    a SampleIndex as an Arrow file
manifest.py      Manifest, ShardInfo: what a generation consists of
shard_set.py     ShardSet: a generation, opened
"""
