"""The tree of calls: its shape follows from its keys alone, and its counts from its leaves."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.ledger.keys import ledger_partition
from meter.upkeep.closing.canonical import canonical, canonical_counts
from meter.upkeep.closing.tree import KEY_BITS, Node, Step, Tree, is_right, join, key_of

SMALL = [0, 1, 2**200, 2**200 + 1, 2**389, 2**390 - 1]
KEYS = st.lists(
    st.integers(0, 2**KEY_BITS - 1) | st.sampled_from(SMALL), min_size=1, max_size=40, unique=True
)


def leaf(key: int, **counts: int) -> Node:
    return Node(sha256(str(key).encode()).digest(), counts or {"calls": 1}, key)


def built(keys: list[int]) -> Node:
    tree = Tree()
    for key in sorted(keys):
        tree.add(leaf(key))
    root = tree.root()
    assert root is not None
    return root


def by_definition(keys: list[int], depth: int = 0) -> Node:
    """The trie as it is defined: at each bit in which keys differ, 0 to the left and 1 to the right."""
    if len(keys) == 1:
        return leaf(keys[0])
    left = [key for key in keys if not is_right(key, depth)]
    right = [key for key in keys if is_right(key, depth)]
    if not left or not right:
        return by_definition(keys, depth + 1)
    return join(depth, by_definition(left, depth + 1), by_definition(right, depth + 1))


@given(KEYS)
def test_a_tree_that_is_built_leaf_by_leaf_is_the_one_that_is_defined(keys: list[int]) -> None:
    """The keys alone decide its shape, so there is one tree for a set of calls."""
    root = built(keys)

    assert (root.hash, root.counts) == by_definition(keys)[:2]
    assert root.counts == {"calls": len(keys)}


@given(KEYS)
def test_subtrees_join_into_the_same_tree(keys: list[int]) -> None:
    """What is stored of each bucket is enough for the whole."""
    tree = Tree()
    for bucket in range(64):
        if of_bucket := [key for key in keys if key >> (KEY_BITS - 6) == bucket]:
            tree.add(built(of_bucket)._replace(key=bucket << (KEY_BITS - 6)))
    root = tree.root()

    assert root is not None
    assert root.hash == built(keys).hash


@given(KEYS, st.data())
def test_a_path_leads_from_its_leaf_to_the_root(keys: list[int], data: st.DataObject) -> None:
    """Each step is the other side of a node, and the key says which."""
    watched = data.draw(st.sampled_from(keys))
    tree = Tree()
    for key in sorted(keys):
        tree.add(leaf(key)._replace(path=() if key == watched else None))
    root = tree.root()
    assert root is not None
    assert root.path is not None
    node = leaf(watched)
    for step in root.path:
        other = Node(step.hash, step.counts, 0)
        pair = (other, node) if is_right(watched, step.depth) else (node, other)
        node = join(step.depth, *pair)

    assert node[:2] == root[:2]


def test_a_tree_holds_one_node_per_level() -> None:
    """However many leaves there are: their number decides the memory of nothing."""
    tree, most = Tree(), 0
    for number in range(5_000):
        tree.add(leaf(number << 300))
        most = max(most, len(tree._nodes))

    assert most <= 14


@pytest.mark.parametrize("second", [5, 4])
def test_a_key_cannot_come_twice_or_late(second: int) -> None:
    """A call is in a tree once."""
    tree = Tree()
    tree.add(leaf(5))

    with pytest.raises(ValueError, match="in the tree already, or comes out of order"):
        tree.add(leaf(second))


def test_a_key_begins_with_its_bucket() -> None:
    """So a ledger partition is a subtree."""
    keys = {name: key_of(name, 0) for name in ("alice", "bob", "b|ö")}

    assert {name: f"{key >> 384:02}" for name, key in keys.items()} == {
        name: ledger_partition(name) for name in keys
    }


def test_hashes_are_as_documented() -> None:
    """Whoever checks a proof with a program of their own gets these bytes."""
    left, right = leaf(0, calls=1, prompt_tokens=3), leaf(1, calls=1)
    expected = sha256(
        b"\x01\x01\x85" + left.hash + b'{"calls":1,"prompt_tokens":3}' + right.hash + b'{"calls":1}'
    )

    assert join(389, left, right).hash == expected.digest()
    assert built([0, 1]).hash == join(389, leaf(0), leaf(1)).hash
    assert canonical({"b": 1, "a": 'é"\n'}) == '{"a":"é\\"\\n","b":1}'.encode()


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_counts_have_the_same_json_as_anything(counts: dict[str, int]) -> None:
    """Whatever their names and their order."""
    assert canonical_counts(counts) == canonical(counts)
    assert canonical_counts(dict(reversed(counts.items()))) == canonical(counts)


def test_counts_that_cancel_out_are_left_out() -> None:
    """Counts of 0 have one form."""
    both = join(3, leaf(0, calls=1, adjusted_images=2), leaf(1, adjusted_images=-2))

    assert both.counts == {"calls": 1}


def test_a_step_has_the_other_side() -> None:
    """Whichever side the watched leaf is on."""
    one, other = leaf(0), leaf(1)

    assert join(389, one._replace(path=()), other).path == (Step(389, other.hash, {"calls": 1}),)
    assert join(389, one, other._replace(path=())).path == (Step(389, one.hash, {"calls": 1}),)
