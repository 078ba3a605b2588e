"""Sources that are read from their start to their end: recognised, and read as samples. See ../spool.py.

stream.py       Stream, and the units it consists of
recognise.py    whatever a user names as a source -> tar files, or a Stream
fields.py       a value of a sample -> the bytes of a part and its extension; nothing is decoded
tars.py         compressed tars
folder.py       files in folders, a class to each
parquet.py      Parquet files, a column to a part
huggingface.py  datasets of Hugging Face's `datasets`
mds.py          directories of mosaicml-streaming's format
mds_values.py   what its columns hold
mappings.py     any iterable of samples as dicts

A new kind is a file with a function that makes a Stream, and a line in recognise.py.
"""
