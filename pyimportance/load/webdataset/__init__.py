"""WebDataset: the interface of webdataset's class of that name, on our loader.

dataset.py   the constructor, and how the data set is iterated, measured and resumed
fluent.py    its methods, each of which adds a stage: .decode .to_tuple .map .batched ...
stages.py    what they add: iterator -> iterator
applied.py   functions of each sample, and what takes the place of one that they leave out
decoders.py  bytes -> values by extension, without pickle unless it is asked for
images.py    bytes -> PIL images, arrays and tensors
sources.py   what may be given in the place of shards, and what to use instead of what may not
passes.py    which samples make an iteration: one pass over the data, several, or part of an endless row
turns.py     which epoch an iteration reads, agreed upon by the loader processes that share it
"""
