import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from nnscan.results import key_index
from nnscan.results.key_index import KeyIndex

KEY = st.integers(0, 40).map(lambda number: f"{number * 7919:032x}")


@given(st.lists(KEY, max_size=30), st.lists(KEY, unique=True, max_size=30), st.integers(0, 3))
def test_places_are_those_of_a_dictionary(wanted, keys, start):
    """Also of arrays that are slices of others, and of keys that are not 32 digits long."""
    for shorten in (32, 31):
        own, others = ([key[:shorten] for key in ["f" * 32] * start + column] for column in (wanted, keys))
        found = KeyIndex(pa.array(others, pa.string()).slice(start)).places(pa.array(own, pa.string()).slice(start))
        places = {key: row for row, key in reversed(list(enumerate(others[start:])))}
        assert found.tolist() == [places.get(key, -1) for key in own[start:]]


def test_keys_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(key_index, "_hashes", lambda words: words[:, 0] * 0)
    keys = pa.array([f"{number:032x}" for number in range(9)])
    assert KeyIndex(keys[3:5]).places(keys).tolist() == [-1, -1, -1, 0, 1, -1, -1, -1, -1]
