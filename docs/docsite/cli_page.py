"""docs/reference/cli.md: every verb of the command line, from the parser that reads it."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from coordinator.cli import main
from docsite.markdown import table, wrapped

_HEAD = """# Command line

This page lists every command of `errorcast`, with its arguments and its options. It is for readers
who know what they want to do; the [how-to pages](../how-to/model.md) show the commands at work.
`errorcast --help` and `errorcast COMMAND --help` print the same texts.
"""
_SHARED = """## For all commands

- A word in capital letters, such as `TEXT` in `--set TEXT`, stands for a value.
- You can give an option several times if its text says *repeatable*.
- `--set FIELD=VALUE` changes any field of the [job](job.md): `--set optimizer.lr=0.0005`. The
  value is read as YAML.
- An error is one line. `errorcast --debug COMMAND` also shows its stack trace.
"""
VARIABLES: Mapping[str, str] = {
    "ERRORCAST_DATA": "folder of the data sets, where `data_dir` is not given",
    "ERRORCAST_CACHE": "folder for downloaded and prepared data; default: the user's cache folder",
    "ERRORCAST_ADDRESS": "`host:port` of the service, for the commands that use one",
    "ERRORCAST_TOKEN": "your token for the service",
    "ERRORCAST_TLS_CA": "PEM file of the authority that signed the service's certificate",
    "ERRORCAST_TLS_CERT": "PEM file of your own certificate, for a service that requires one",
    "ERRORCAST_TLS_KEY": "PEM file of the key of that certificate",
}
_VALUES = {
    "bool": "",
    "float": "NUMBER",
    "int": "NUMBER",
    "Path": "PATH",
    "path": "PATH",
    "str": "TEXT",
}
_Parameter = TyperArgument | TyperOption


def cli_page() -> str:
    """Return the page as Markdown."""
    group = typer.main.get_command(main.app)
    if not isinstance(group, TyperGroup):
        raise TypeError(f"the command line is a {type(group).__name__}, not a group of commands")
    panels: dict[str, list[TyperCommand]] = {}
    for command in group.commands.values():
        if isinstance(command, TyperCommand) and not command.hidden:
            panels.setdefault(str(command.rich_help_panel), []).append(command)
    parts = [_HEAD]
    for title, commands in panels.items():
        rows = [(f"[`{c.name}`](#errorcast-{c.name})", _first_paragraph(c)) for c in commands]
        parts.append(f"**{title}**\n\n" + table(("command", "what it does"), rows))
    parts += [_SHARED, _exit_codes(), _variables()]
    parts += [_command(command, group) for commands in panels.values() for command in commands]
    return "\n".join(parts)


def _exit_codes() -> str:
    """Return the table of exit codes, which the command line's module describes."""
    _, _, text = (main.__doc__ or "").partition("Exit codes:")
    found = re.findall(r"(\d+) ([^;.]+)", " ".join(text.split()))
    if len(found) < 2:
        raise ValueError("coordinator/cli/main.py describes no exit codes")
    rows = [(f"`{code}`", meaning) for code, meaning in found]
    return "## Exit codes\n\n" + table(("code", "meaning"), rows)


def _variables() -> str:
    rows = [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()]
    return "## Environment variables\n\n" + table(("variable", "meaning"), rows)


def _command(command: TyperCommand, group: TyperGroup) -> str:
    parent = group.context_class(group, info_name="errorcast")
    context = command.context_class(command, info_name=command.name, parent=parent)
    parts = [f"## `errorcast {command.name}`\n"]
    parts.append(f"```text\n{command.get_usage(context).removeprefix('Usage: ').strip()}\n```\n")
    parts.extend(_described(command.help or ""))
    arguments = [p for p in command.params if isinstance(p, TyperArgument) and not p.hidden]
    rows = [(f"`{p.name}`", _help(p), _default(p)) for p in arguments]
    if rows:
        parts.append(table(("argument", "meaning", "default"), rows))
    panels: dict[str, list[TyperOption]] = {}
    for option in command.params:
        if isinstance(option, TyperOption) and not option.hidden:
            panels.setdefault(option.rich_help_panel or "", []).append(option)
    for title, options in panels.items():
        rows = [
            (_names(option, option.display_type(context)), _help(option), _default(option))
            for option in options
        ]
        heading = f"**{title}**\n\n" if title else ""
        parts.append(heading + table(("option", "meaning", "default"), rows))
    return "\n".join(parts)


def _described(text: str) -> Iterator[str]:
    """Yield the paragraphs of a description; its examples as a block of commands."""
    for paragraph in re.split(r"\n\s*\n", text.replace("\b\n", "")):
        title, colon, rest = paragraph.partition(":\n")
        if colon and rest.startswith("    "):
            lines = "\n".join(line.strip() for line in rest.splitlines())
            yield f"{_plain(title)}:\n\n```text\n{lines}\n```\n"
        else:
            yield wrapped(_plain(paragraph))


def _first_paragraph(command: TyperCommand) -> str:
    return _plain(re.split(r"\n\s*\n", command.help or "")[0])


def _names(option: TyperOption, shown_type: str) -> str:
    """Return an option as it is written, with what stands for its value.

    shown_type: as --help shows it: `<int range>`, `<list[str]>`, `<text|json>`.
    """
    kind = shown_type.strip("<>").removeprefix("list[").removesuffix("]").removesuffix(" range")
    value = _VALUES.get(kind, kind)
    return ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in option.opts)


def _default(parameter: _Parameter) -> str:
    default = parameter.default
    if default in (None, False, "", (), []) or callable(default):
        return ""
    return f"`{default.value if isinstance(default, Enum) else default}`"


def _help(parameter: _Parameter) -> str:
    names = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    ends = [f"at least {parameter.min}"] if parameter.min is not None else []
    ends += [f"at most {parameter.max}"] if parameter.max is not None else []
    parts = [_plain(parameter.help or "")]
    if ends:
        parts.append(f"{' and '.join(ends).capitalize()}.")
    parts += [f"Environment variable: `{name}`." for name in names]
    return " ".join(parts)


def _plain(text: str) -> str:
    """Return a text as one line of Markdown: what looks like a pattern or a placeholder is code."""
    line = " ".join(text.split())
    line = re.sub(r"'([^' ]*[*<\[][^' ]*)'", r"`\1`", line)
    return line.replace("<", "&lt;") if "`" not in line else line
