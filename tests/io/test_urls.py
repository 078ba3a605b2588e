"""URLs as text: what may be shown of them, and what lies where below them."""

from __future__ import annotations

import pytest

from pyimportance.io.urls import is_url, join, parse, public, relative


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("http://h/a.tar", True),
        ("HTTPS://h/a.tar", True),
        ("s3://b/a", True),
        ("gs://b/a", True),
        ("az://c/a", True),
        ("s3:/b/a", False),
        ("ftp://h/a", False),
        ("file:///a", False),
        ("pipe:cat a", False),
        ("/data/http://h/a", False),
    ],
)
def test_what_a_url_is(path: str, expected: bool) -> None:
    assert is_url(path) is expected


def test_a_url_taken_apart() -> None:
    url = parse("https://me:secret@host:8000/a%20b/%25.tar?sign=x&y#part")
    assert (url.scheme, url.user, url.host) == ("https", "me:secret", "host:8000")
    assert (url.path, url.query) == ("a b/%.tar", "sign=x&y")
    assert str(url) == "https://me:secret@host:8000/a%20b/%25.tar?sign=x&y"
    assert parse("s3://bucket/a%20b?#.tar").path == "a%20b?#.tar"  # a name like others
    assert parse("http://[::1]:80").host == "[::1]:80"
    assert parse("S3://bucket").path == ""


def test_what_is_shown_holds_no_secret() -> None:
    assert public("https://me:secret@host/a%20b.tar?X-Amz-Signature=secret") == "https://host/a%20b.tar"
    assert public("s3://key:secret@bucket/a.tar") == "s3://bucket/a.tar"
    for path in ("http://h/%7Ea.tar", "s3://b/what?.tar", "/data/a?b@c.tar", "a.tar"):
        assert public(path) == path


def test_what_lies_below() -> None:
    assert join("/data/out", "a/b.tar") == "/data/out/a/b.tar"
    assert join("s3://bucket/out/", "a/b?.tar") == "s3://bucket/out/a/b?.tar"
    assert join("s3://bucket", "a.tar") == "s3://bucket/a.tar"
    assert join("http://h/o%20ut?sign=x", "../%2e/a?b.tar") == "http://h/o%20ut/../%252e/a%3Fb.tar?sign=x"


def test_names_are_the_same_wherever_the_files_are() -> None:
    names = ("a/x.tar", "b/a b.tar")
    for root in ("/data", "http://me:pw@host:80/data?sign=x", "s3://bucket", "s3://bucket/deep/er"):
        assert relative([join(root, name) for name in names]) == names
    assert relative([]) == ()
    assert relative(["http://h/x.tar"]) == ("x.tar",)
    assert relative(["http://h/x.tar", "http://i/x.tar"]) == ("h/x.tar", "i/x.tar")
    assert relative(["http://h/x.tar", "s3://h/x.tar"]) == ("http:/h/x.tar", "s3:/h/x.tar")
    assert relative(["http://h/x.tar", "/data/x.tar"]) == ("http:/h/x.tar", "data/x.tar")
