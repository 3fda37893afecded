"""Bad values of an argument, by the kind of argument it is: strategies of Python expressions.

An expression is bad only if the documented interface says so: 8.0 is a count, and 0 a seed. It is
evaluated beside what `things` holds, so that a case can be printed and tried again.
"""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

__all__ = [
    "among",
    "choice",
    "condition",
    "count",
    "each",
    "finite",
    "flag",
    "folder",
    "fraction",
    "function",
    "generator",
    "grid",
    "instance",
    "mapping",
    "nonnegative",
    "policy",
    "positive",
    "reward",
    "shape",
    "states",
    "time",
    "words",
]

Bad = SearchStrategy[str]

NO_NUMBER = [
    "'abc'",
    "'1'",
    "''",
    "b'1'",
    "True",
    "[]",
    "[1.0]",
    "{}",
    "1j",
    "float",
    "len",
    "object()",
    "torch.zeros(2)",
    "np.array([1, 2])",
    "torch.tensor(nan)",
]
NOT_FINITE = ["nan", "inf", "-inf", "np.float64('nan')"]
NO_OBJECT = [
    "3",
    "nan",
    "'no such thing'",
    "b'x'",
    "torch.zeros(2)",
    "{}",
    "[]",
    "object()",
    "True",
]


def each(*expressions: str) -> Bad:
    """Some expressions, spelled out."""
    return st.sampled_from(expressions)


def words(known: Sequence[str]) -> Bad:
    """Typos of known names: a letter dropped, doubled, changed or swapped, or another case."""

    def spoil(word: str) -> SearchStrategy[str]:
        place = st.integers(0, len(word) - 1)
        return st.one_of(
            place.map(lambda i: word[:i] + word[i + 1 :]),
            place.map(lambda i: word[:i] + word[i] + word[i:]),
            place.map(lambda i: word[:i] + "q" + word[i + 1 :]),
            place.map(lambda i: word[:i] + word[i : i + 2][::-1] + word[i + 2 :]),
            st.just(word.upper()),
            st.just(word + " "),
        )

    return st.sampled_from(list(known)).flatmap(spoil).filter(lambda word: word not in known)


def choice(*known: str, optional: bool = False) -> Bad:
    """What is none of several names."""
    others = each("3", "nan", "True", "[]", "{}", "('a', 'b')", "object()", "''", "str")
    return st.one_of(words(known).map(repr), others, _none(optional))


def finite(optional: bool = False) -> Bad:
    """What is no finite number."""
    return st.one_of(each(*NO_NUMBER), each(*NOT_FINITE), _none(optional))


def nonnegative(optional: bool = False) -> Bad:
    """What is no finite number of at least 0."""
    return st.one_of(finite(optional), _below(0.0, exclude=True))


def positive(optional: bool = False) -> Bad:
    """What is no positive number."""
    return st.one_of(finite(optional), _below(0.0), each("0", "0.0", "-0.0", "-1"))


def fraction(zero: bool = True, one: bool = True, optional: bool = False) -> Bad:
    """What is no number between 0 and 1."""
    ends = [*([] if zero else ["0.0"]), *([] if one else ["1.0"]), "-1", "2"]
    return st.one_of(
        finite(optional), _below(0.0, exclude=True), _above(1.0, exclude=True), each(*ends)
    )


def count(least: int = 1, most: int | None = None, optional: bool = False) -> Bad:
    """What is no whole number from `least` to `most`."""
    kinds = [
        finite(optional),
        st.integers(-1000, least - 1).map(str),
        st.floats(least, least + 20).map(lambda f: f"{f:.3f}").filter(_has_fraction),
        each(f"{least}.5", str(least - 1)),
    ]
    if most is not None:
        kinds.append(st.integers(most + 1, most + 1000).map(str))
    return st.one_of(kinds)


def flag() -> Bad:
    """What is neither True nor False."""
    return each(
        "'maybe'", "'true'", "'no'", "2", "-1", "0.5", "nan", "None", "[]", "{}", "object()"
    )


def generator() -> Bad:
    """What is neither a generator nor a seed."""
    bad = ["-1", "2.5", "nan", "inf", "'abc'", "[0]", "True", "object()", "torch.Generator", "{}"]
    return each(*bad, "np.random.default_rng(0)", "torch.zeros(2)")


def policy(network: bool = False) -> Bad:
    """What is no policy, or none with a network."""
    bad = [*NO_OBJECT, "None", "'no_such_model'", "af.FlowMapPolicy", "lambda x: x", "[policy]"]
    return each(*bad, "network", "red", *(["ring"] if network else []))


def reward(optional: bool = False) -> Bad:
    """What is no reward."""
    bad = ["3", "nan", "'no_such_reward'", "torch.zeros(2)", "[]", "True", "object()"]
    return st.one_of(each(*bad, "af.Reward", "af.Sum", "[red]", "('red', 1.0)"), _none(optional))


def function(optional: bool = False) -> Bad:
    """What cannot be called."""
    return st.one_of(each(*NO_OBJECT), _none(optional))


def instance(*more: str, optional: bool = False) -> Bad:
    """What is none of our objects."""
    return st.one_of(each(*NO_OBJECT), each(*more) if more else st.nothing(), _none(optional))


def mapping(*more: str, optional: bool = False) -> Bad:
    """What is no mapping from names to what is wanted."""
    bad = ["3", "nan", "'abc'", "[1]", "True", "object()", "{'a': 3}", "{'a': None}"]
    return st.one_of(each(*bad, *more), _none(optional))


def shape() -> Bad:
    """What is no shape of a state."""
    bad = ["None", "'abc'", "nan", "2.5", "(0,)", "(-1,)", "(2.5,)", "(nan,)", "('a',)", "(True,)"]
    return each(*bad, "object()", "(None,)", "[[2]]", "(2, 0)")


def states(event: str = "2", rows: bool = False) -> Bad:
    """What are no states (N, `event`)."""
    bad = ["None", "3", "nan", "'abc'", "{}", "object()", "torch.zeros(4, 3)", "torch.zeros(2)"]
    bad += [f"torch.zeros(4, 1, {event})", "torch.zeros(())", f"torch.zeros(4, {event}).bool()"]
    bad += [f"torch.zeros(4, {event}, dtype=torch.cfloat)", "[]", "torch.zeros"]
    if rows:
        bad += [f"torch.zeros(0, {event})", f"torch.full((4, {event}), nan)"]
        bad += [f"torch.full((4, {event}), inf)"]
    return each(*bad)


def time() -> Bad:
    """What is no time of four states."""
    bad = ["None", "'abc'", "True", "[]", "{}", "1j", "object()", "nan", "inf", "-0.1", "1.5", "2"]
    bad += ["torch.zeros(3)", "torch.zeros(4, 1)", "torch.zeros(0)", "torch.tensor('0.5' == 1)"]
    return st.one_of(each(*bad[:-1]), _below(0.0, exclude=True), _above(1.0, exclude=True))


def grid(*also: str) -> Bad:
    """What are no increasing times from 0 to 1."""
    bad = ["[0.0, 0.5]", "[0.5, 1.0]", "[1.0, 0.0]", "[0.0, 0.5, 0.5, 1.0]", "[0.0, nan, 1.0]"]
    bad += ["[0.0, 2.0]", "[-1.0, 1.0]", "[0.0]", "[]", "[[0.0, 1.0]]", "torch.zeros(3)", "3"]
    bad += ["'unifrom'", "nan", "{}", "object()", "torch.tensor([0.0, inf])", "['a', 'b']"]
    return each(*bad, *also)


def condition(classes: int = 3, rows: int = 4) -> Bad:
    """What are no labels of that many classes for that many samples."""
    bad = [
        f"torch.arange({rows - 1})",
        f"[0] * {rows + 1}",
        "'abc'",
        "nan",
        "1.5",
        "{}",
        "object()",
    ]
    bad += [f"{classes}", "99", "-7", f"[0] * {rows - 1} + [{classes}]", "torch.tensor([0.5])"]
    bad += ["[]", "torch.zeros(0, dtype=torch.long)", f"torch.zeros({rows}, 2, 2)", "1j"]
    return each(*bad)


def folder(*more: str) -> Bad:
    """Where no folder can be written."""
    return each("3", "nan", "{}", "[]", "object()", "True", "a_file", *more)


def among(*strategies: Bad) -> Bad:
    """Any of several kinds of badness."""
    return st.one_of(*strategies)


def _has_fraction(text: str) -> bool:
    return not float(text).is_integer()


def _none(optional: bool) -> Bad:
    return st.nothing() if optional else st.just("None")


def _below(most: float, exclude: bool = False) -> Bad:
    return (
        st.floats(-1e6, most, exclude_max=exclude)
        .map(_short)
        .filter(lambda text: float(text) < most or (not exclude and float(text) == most))
    )


def _above(least: float, exclude: bool = False) -> Bad:
    return (
        st.floats(least, 1e6, exclude_min=exclude)
        .map(_short)
        .filter(lambda text: float(text) > least or (not exclude and float(text) == least))
    )


def _short(number: float) -> str:
    return f"{number:.3g}"
