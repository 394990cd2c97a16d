"""Words that all messages share."""

from core.errors import some


def test_a_long_list_of_names_is_cut() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdefg"), shown=5) == "a, b, c, d, e and 2 more"
    assert some([str(n) for n in range(2000)]).endswith(", 9 and 1,990 more")
