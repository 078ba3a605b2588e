"""Errors keep their type, text and fields on their way through other processes."""

import pickle

import pytest
from torch._utils import ExceptionWrapper

from pyimportance import DataError


def test_text_names_file_member_and_offset():
    error = DataError("is no header", path="a.tar", member="x.jpg", offset=512)
    assert str(error) == "a.tar, member 'x.jpg', offset 512: is no header"
    assert (error.problem, error.path, error.member, error.offset) == ("is no header", "a.tar", "x.jpg", 512)
    assert isinstance(error, ValueError)


def test_pickled():
    error = pickle.loads(pickle.dumps(DataError("is no header", path="a.tar", member="x.jpg", offset=512)))
    assert str(error) == "a.tar, member 'x.jpg', offset 512: is no header"
    assert (error.problem, error.path, error.member, error.offset) == ("is no header", "a.tar", "x.jpg", 512)


def test_from_a_loader_process():
    try:
        raise DataError("is no header", path="a.tar")
    except DataError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DataError, match=r"a\.tar: is no header"):
        wrapped.reraise()
