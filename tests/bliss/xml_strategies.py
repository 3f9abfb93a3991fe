"""Hypothesis strategies for XML."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["xml_content"]

Strings = st.SearchStrategy[str]


def xml_content(texts: list[str], names: list[str], attributes: list[str], values: Strings) -> Strings:
    """Return a strategy for the content of an element: text, or an element, which may contain others."""

    def element(content: Strings) -> Strings:
        return st.builds(
            lambda name, given, inside: (
                f"<{name} " + " ".join(f'{k}="{v}"' for k, v in given.items()) + f">{inside}</{name}>"
            ),
            st.sampled_from(names),
            st.dictionaries(st.sampled_from(attributes), values, max_size=3),
            st.lists(content, max_size=4).map("".join),
        )

    return st.recursive(st.sampled_from(texts), element, max_leaves=8)
