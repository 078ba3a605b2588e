"""The ``pyimportance`` command.

app.py       the commands by name, and main(), which turns errors into one line and exit status 2
options.py   what the library says of arguments, in terms of options
output.py    tables and JSON on standard output, progress bars on standard error
demo.py      demo
data.py      index, shard, repartition, verify
scoring.py   score, partition
inspect.py   inspect
bench.py     bench
"""
