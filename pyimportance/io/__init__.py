"""Where bytes come in and go out: the only folder that opens files.

meter.py       counts bytes and requests by tier
descriptor.py  a file descriptor that is closed once
storage.py     opens data for reading, and counts every read
urls.py        what a URL is, and what of it may be shown
remote.py      objects behind URLs
relay.py       for forked processes, through one that was not
downloads.py   threads that wait for servers
arriving.py    objects fetched ahead, through a cache
arriving_frames.py  compressed frames of such an object
through.py     what is read whole of them, or looked through
node_cache.py  what a node has fetched, shared by its processes
entry.py       of one object
extents.py     which bytes of it
listing.py     which objects a pattern of URLs means
forward.py     a file read once from its start to its end, decompressed
seek_table.py  where the frames of a compressed file lie
frames.py      a file that is compressed frame by frame, read by position
compress.py    writes one
files.py       many files read by turns, few of them open
headers.py     what was read of a tar, against the index by which it was read
parquet.py     reads a Parquet table that anybody may have written
atomic.py      writes a file whole or not at all
output.py      writes to a file or to a store
upload.py      objects, written whole
lock.py        one process at a time, for a file or a range of it
cache.py       the least recently used byte ranges, on disk, of one process
"""
