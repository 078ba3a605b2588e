"""WebDataset: the interface of webdataset's class of that name, on our loader.

dataset.py    the constructor: webdataset's arguments, and ours
arguments.py  arguments that are there for webdataset's sake
sources.py    what may be given in the place of shards, and what to use instead of what may not
renaming.py   members of tars under other names
faults.py     what a handler says of samples that cannot be read
fluent.py     its methods, each of which adds a stage: .decode .to_tuple .map .batched ...
functions.py  what these do with a sample
stages.py     what they add: iterator -> iterator
pipeline.py   stages together: what they make of samples, how many, and whether that can be known
barren.py     stages that give nothing for ever
applied.py    functions of each sample, and what takes the place of one that they leave out
decoders.py   bytes -> values by extension, without pickle unless it is asked for
images.py     bytes -> PIL images, arrays and tensors
piped.py      a data set with a pipeline: an iteration, its length, its position
rounds.py     which samples make an iteration: one round of the data, several, or part of an endless row
turns.py      which epoch an iteration reads, agreed upon by the loader processes that share it
"""
