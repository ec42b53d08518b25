"""Write the reference from the code: settings, commands, routes, fields, errors, exit codes.

Only what stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` is written; the words around it are a
person's. ``--check`` writes nothing, prints what would change, and exits with 1 if anything would.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main
from pydantic_settings import BaseSettings

from hidream_edit import settings
from hidream_edit.api import problems
from hidream_edit.api.problems import Problem
from hidream_edit.api.server_document import server_document
from hidream_edit.cli.main import app
from hidream_edit.client import errors as client_errors
from hidream_edit.domain import errors as domain_errors
from hidream_edit.domain.edit import EditDefaults
from hidream_edit.engine.cards import read_defaults
from hidream_edit.engine.known_models import BUNDLED
from hidream_edit.wiring.exit_codes import BY_ERROR, ExitCode

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
BEGIN, END = "<!-- generated: {} -->", "<!-- end -->"
BLOCK = re.compile(r"<!-- generated: (?P<name>[\w-]+) -->\n(?P<inside>.*?)<!-- end -->", re.DOTALL)
PROGRAM = "hidream-edit"
OPTIONS_OF_OTHER_NAMES = {"HIDREAM_EDIT_SAFETY_REQUIRED": "require_safety_checker"}
SETTINGS: dict[str, tuple[type[BaseSettings], ...]] = {
    "model": (settings.ModelSettings,),
    "describer": (settings.DescriberSettings,),
    "server": (settings.ServerSettings,),
    "s3": (settings.S3Settings,),
    "safety": (settings.SafetySettings,),
    "logs": (settings.LogSettings, settings.RunnerSettings),
    "null": (settings.NullEngineSettings,),
}
NAMES = ("Llama", "OpenAPI")
Block = Callable[[], str]


class Unwritable(Exception):
    """A page is not there, or its marks are not those of its blocks."""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n" for cells in (headings, *rows)]
    lines.insert(1, "|" + "---|" * len(headings) + "\n")
    return "".join(lines)


def words(text: str) -> str:
    """A sentence as a cell of a table: without its point, and beginning small where its first word is a plain one."""
    line = " ".join(text.split()).removesuffix(".").replace("|", "\\|").replace("``", "`")
    if line.startswith(NAMES):
        return line
    return line[:1].lower() + line[1:] if re.match(r"(A|[A-Z][a-z]+)[ ,;:/]|[A-Z][a-z]+$", line) else line


def code(text: object) -> str:
    return f"`{text}`"


# Commands


def commands(command: Any = None, name: str = PROGRAM) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its whole name."""
    command = command or typer.main.get_command(app)
    below = getattr(command, "commands", None)
    if below is None:
        yield name, command
        return
    for word, one in below.items():
        yield from commands(one, f"{name} {word}")


def is_option(parameter: Any) -> bool:
    return str(parameter.opts[0]).startswith("-") and not parameter.hidden


def option_names(parameter: Any) -> str:
    return ", ".join(code(name) for name in (*parameter.opts, *parameter.secondary_opts))


def default_of(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default is None or parameter.is_flag:
        return ""
    return code(parameter.default.value if isinstance(parameter.default, Enum) else parameter.default)


def values_of(parameter: Any) -> str:
    """The words that an option takes, or its bounds, where it has any."""
    annotation = parameter.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " (" + ", ".join(code(one.value) for one in annotation) + ")"
    return "" if parameter.min is None else f" (at least {parameter.min:g})"


def command_blocks() -> str:
    root = typer.main.get_command(app)
    shared: list[Any] = [parameter for parameter in root.params if is_option(parameter)]
    parts = [table(("option", "meaning"), [(option_names(one), words(one.help)) for one in shared])]
    for name, command in commands():
        arguments = [one for one in command.params if not is_option(one) and not one.hidden]
        options = [one for one in command.params if is_option(one)]
        metavars = " ".join(one.metavar or str(one.name).upper() for one in arguments)
        usage = " ".join(word for word in (name, metavars, "[OPTIONS]" if options else "") if word)
        parts.append(f"## {name.removeprefix(f'{PROGRAM} ')}\n\n{command.help}\n\n```text\n{usage}\n```\n")
        if arguments:
            rows = [(code(one.metavar or str(one.name).upper()), words(one.help)) for one in arguments]
            parts.append(table(("argument", "meaning"), rows))
        if options:
            rows = [(option_names(one), default_of(one), words(one.help) + values_of(one)) for one in options]
            parts.append(table(("option", "default", "meaning"), rows))
    return "\n".join(parts)


# Settings


def settings_block(classes: Sequence[type[BaseSettings]]) -> str:
    rows = []
    for one in classes:
        for name, field in one.model_fields.items():
            variable = f"{one.model_config['env_prefix']}{name}".upper()
            extra = field.json_schema_extra
            unset = extra.get("unset") if isinstance(extra, dict) else None
            rows.append(
                (code(variable), option_of(variable), str(unset or shown(field.default)), words(field.description))
            )
    return table(("variable", "option", "default", "meaning"), rows)


def shown(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, str):
        return code(default)
    number = int(default) if isinstance(default, float) and default.is_integer() else default
    return code(json.dumps(number))


def option_of(variable: str) -> str:
    """The option that sets the same, on whichever command has it; a server's own are those of `serve`."""
    name = variable.removeprefix("HIDREAM_EDIT_")
    wanted = OPTIONS_OF_OTHER_NAMES.get(variable, name.removeprefix("SERVER_").lower())
    for command_name, command in commands():
        if name.startswith("SERVER_") and command_name != f"{PROGRAM} serve":
            continue
        for parameter in command.params:
            if parameter.name == wanted and is_option(parameter):
                return code(parameter.opts[0])
    return ""


# The protocol


def described(defaults: EditDefaults) -> dict[str, Any]:
    return server_document("http://localhost:8000", defaults)


def calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described(EditDefaults())["paths"].items():
        for method, call in methods.items():
            yield method.upper(), path, call


def route_tables() -> str:
    parts: dict[str, list[tuple[str, ...]]] = {}
    for method, path, call in calls():
        answers = " ".join(sorted(call["responses"]))
        row = (code(f"{method} {path}"), words(call["summary"]), answers, code(call["operationId"]))
        parts.setdefault(call["tags"][0], []).append(row)
    headings = ("route", "what it does", "answers", "name")
    return "\n".join(f"## {tag}\n\n{table(headings, rows)}" for tag, rows in parts.items())


def parameter_table(place: str) -> str:
    """Names, where they go, and what they mean; a parameter of many routes has one line."""
    routes: dict[tuple[str, str], list[str]] = {}
    for _, _, call in calls():
        for one in call["parameters"]:
            if one["in"] == place:
                meaning = words(one.get("description", "")) + limits(one["schema"])
                routes.setdefault((one["name"], meaning), []).append(call["operationId"])
    rows = [(code(name), meaning, ", ".join(map(code, where))) for (name, meaning), where in routes.items()]
    return table(("name", "meaning", "of"), rows)


def limits(schema: dict[str, Any]) -> str:
    ends = [f"{word} {schema[key]}" for word, key in (("from", "minimum"), ("to", "maximum")) if key in schema]
    return f" ({' '.join(ends)})" if ends else ""


def status_table() -> str:
    meanings: dict[str, list[str]] = {}
    for _, _, call in calls():
        for status, answer in call["responses"].items():
            meaning = words(answer["description"])
            if status != "200" and meaning not in meanings.setdefault(status, []):
                meanings[status].append(meaning)
    return table(("status", "meaning"), [(code(status), "; ".join(all_)) for status, all_ in sorted(meanings.items())])


def input_table() -> str:
    hosted, mini = (
        described(defaults)["components"]["schemas"]["HidreamE1FullInput"]
        for defaults in (EditDefaults(), read_defaults(BUNDLED, EditDefaults()))
    )
    rows = []
    for name, field in hosted["properties"].items():
        both = [one["properties"][name] for one in (hosted, mini)]
        chosen = ["required" if name in hosted["required"] else default_in(one) for one in both]
        if name == "seed":
            chosen = ["random"] * 2
        rows.append((code(name), field["type"], *chosen, bounds(field), words(field["description"])))
    headings = ("field", "type", "default, real model", "default, mini model", "bounds", "meaning")
    return table(headings, rows)


def default_in(field: dict[str, Any]) -> str:
    return code(json.dumps(field["default"])) if "default" in field else "empty"


def bounds(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(code(json.dumps(one)) for one in field["enum"])
    if "minimum" not in field:
        return ""
    return f"{int(field['minimum'])} to {int(field['maximum'])}"


def output_table(schema: str) -> str:
    shape = described(EditDefaults())["components"]["schemas"][schema]
    rows = [(code(name), type_of(field), words(field["description"])) for name, field in shape["properties"].items()]
    return table(("field", "type", "meaning"), rows)


def type_of(field: dict[str, Any]) -> str:
    if field["type"] == "array":
        item = field["items"]
        return f"list of {item['type']}" if "type" in item else f"list of {str(item['$ref']).rpartition('/')[2]}"
    return "object of numbers" if field["type"] == "object" else str(field["type"])


# Errors


def problem_table(heading: str, rows: dict[str, Problem], *, is_code: bool = True) -> str:
    return table(
        (heading, "status", "meaning", "what to do"),
        [
            (
                code(kind) if is_code else kind,
                ", ".join(map(str, problem.statuses)),
                problem.meaning,
                problem.advice,
            )
            for kind, problem in rows.items()
        ],
    )


def exception_table(module: Any, base: type[Exception]) -> str:
    """Names, in the order of the module, with the code of the nearest ancestor that has one."""
    own = [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__]
    rows = []
    for one in own:
        parent = "" if one is base else code(one.__mro__[1].__name__)
        exit_code = next(BY_ERROR[ancestor] for ancestor in one.__mro__ if ancestor in BY_ERROR)
        meaning = inspect.cleandoc(one.__doc__ or "").partition("\n\n")[0]
        rows.append((code(one.__name__), parent, words(meaning), str(exit_code.value)))
    return table(("error", "is a", "meaning", "exit code"), rows)


def exit_code_table() -> str:
    rows = [(str(one.value), code(one.name), one.meaning, one.advice) for one in ExitCode]
    return table(("code", "name", "meaning", "what to do"), rows)


PAGES: dict[str, dict[str, Block]] = {
    "settings.md": {name: lambda classes=classes: settings_block(classes) for name, classes in SETTINGS.items()},
    "cli.md": {"commands": command_blocks},
    "routes.md": {
        "routes": route_tables,
        "statuses": status_table,
        "query": lambda: parameter_table("query"),
        "headers": lambda: parameter_table("header"),
    },
    "fields.md": {
        "input": input_table,
        "output": lambda: output_table("HidreamE1FullOutput"),
        "image": lambda: output_table("Image"),
    },
    "errors.md": {
        "calls": lambda: problem_table("type", problems.OF_CALLS),
        "input": lambda: problem_table("type", problems.OF_INPUT),
        "pictures": lambda: problem_table("type", problems.OF_PICTURES),
        "requests": lambda: problem_table("type", problems.OF_REQUESTS),
        "without-type": lambda: problem_table("body", problems.WITHOUT_TYPE, is_code=False),
        "package": lambda: exception_table(domain_errors, domain_errors.HidreamEditError),
        "client": lambda: exception_table(client_errors, client_errors.ClientError),
    },
    "exit-codes.md": {"exit-codes": exit_code_table},
}


def written(name: str, text: str) -> str:
    """``text`` with the blocks of the page ``name`` as the code has them now.

    Raises:
        Unwritable: a mark is missing, stands twice, or belongs to no block.
    """
    blocks = PAGES[name]
    marks = [found["name"] for found in BLOCK.finditer(text)]
    if sorted(marks) != sorted(blocks) or text.count(END) != len(marks):
        expected = ", ".join(BEGIN.format(block) for block in blocks)
        raise Unwritable(f"{name}: each of these should stand there once, with {END} after it: {expected}")
    return BLOCK.sub(lambda found: f"{BEGIN.format(found['name'])}\n\n{blocks[found['name']]()}\n{END}", text)


def changes(folder: Path) -> dict[Path, tuple[str, str]]:
    """Pages that are not what the code says, each before and after.

    Raises:
        Unwritable: a page is not there, or its marks are wrong.
    """
    found = {}
    for name in PAGES:
        page = folder / name
        if not page.is_file():
            raise Unwritable(f"{name} is not there; begin it with a heading and the marks of its blocks")
        before = page.read_text(encoding="utf-8")
        after = written(name, before)
        if after != before:
            found[page] = (before, after)
    return found


def main(arguments: Sequence[str], folder: Path = REFERENCE) -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where pages are out of date")
    is_check = parser.parse_args(arguments).check
    try:
        found = changes(folder)
    except Unwritable as problem:
        print(problem)
        return 1
    for page, (before, after) in found.items():
        if is_check:
            names = (f"{page.name} as it is", f"{page.name} as the code has it")
            print("".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), *names)))
        else:
            page.write_text(after, encoding="utf-8")
            print(f"wrote {page.name}")
    if found and is_check:
        print("`make reference` writes them anew")
    return 1 if found and is_check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
