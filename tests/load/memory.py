"""The system's account of this process's memory."""

import pytest


def status(name):
    """A line of what the system says of this process: sizes are in KiB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def grown(dataset):
    """Bytes by which this process is larger at most, while it reads an epoch, than after it began one."""
    next(iter(dataset))
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
    except OSError as error:
        pytest.skip(f"the peak of memory cannot be had: {error}")
    before = status("VmRSS")
    assert sum(1 for _ in dataset) == len(dataset)
    return (status("VmHWM") - before) * 1024
