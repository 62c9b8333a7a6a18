"""The house's docstrings as sections, for mkdocstrings.

Here a docstring describes a parameter or a field in a line `name: what it is`. The Google style,
which mkdocstrings reads, wants these lines below `Args:`, one for each name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import griffe

_ENTRY = re.compile(r"((?:\w+, )*\w+):(?: (.*))?$")
_VARIADIC = {
    griffe.ParameterKind.var_positional: "*",
    griffe.ParameterKind.var_keyword: "**",
}


class HouseDocstrings(griffe.Extension):
    """Rewrites the docstrings of functions and classes as they are read."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Describe the parameters of a function."""
        if func.docstring is not None:
            known = {p.name: f"{_VARIADIC.get(p.kind, '')}{p.name}" for p in func.parameters}
            func.docstring.value = with_sections(func.docstring.value, known, "Args")

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Describe the fields of a class."""
        if cls.docstring is not None:
            known = {name: name for name, member in cls.members.items() if _is_field(member)}
            title = "Args" if "dataclass" in cls.labels or _is_dataclass(cls) else "Attributes"
            cls.docstring.value = with_sections(cls.docstring.value, known, title)


def with_sections(text: str, known: Mapping[str, str], title: str) -> str:
    """Return a docstring with its lines `name: what it is` in a section.

    text: without indentation.
    known: how each name that the lines may describe is written in the section.
    title: of the section.
    """
    return "\n\n".join(_rewritten(text, known, title))


def _rewritten(text: str, known: Mapping[str, str], title: str) -> Iterator[str]:
    """Yield the paragraphs; entries that follow one another are one section."""
    section: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        for is_entry, lines in _runs(paragraph.split("\n"), known):
            if is_entry:
                section += [f"    {line}" for line in lines]
                continue
            if section:
                yield "\n".join([f"{title}:", *section])
                section = []
            yield "\n".join(lines)
    if section:
        yield "\n".join([f"{title}:", *section])


def _runs(lines: list[str], known: Mapping[str, str]) -> Iterator[tuple[bool, list[str]]]:
    """Yield runs of lines, each with whether it describes names."""
    run: list[str] = []
    names: list[str] = []
    for line in lines:
        entry = _ENTRY.match(line)
        words = entry[1].split(", ") if entry else []
        starts = bool(words) and all(word in known for word in words)
        if starts or (names and not line.startswith(" ")):
            if run:
                yield bool(names), _entries(names, run, known)
            run, names = [], words if starts else []
        run.append((entry[2] or "") if starts and entry else line)
    if run:
        yield bool(names), _entries(names, run, known)


def _entries(names: list[str], run: list[str], known: Mapping[str, str]) -> list[str]:
    """Return the lines of a section for each name; text that describes none stays as it is."""
    if not names:
        return run
    text = [run[0], *(f"    {line.strip()}" for line in run[1:])]
    return [line for name in names for line in (f"{known[name]}: {text[0]}", *text[1:])]


def _is_field(member: griffe.Object | griffe.Alias) -> bool:
    return member.is_attribute and "property" not in member.labels


def _is_dataclass(cls: griffe.Class) -> bool:
    return any("dataclass" in str(decorator.value) for decorator in cls.decorators)
