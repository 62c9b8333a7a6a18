"""The .proto files: written as `buf lint` would have them, and compatible with what was released.

After a release-worthy addition: `python tests/proto/test_wire.py` writes wire.json anew.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).parents[2] / "proto"
FROZEN = Path(__file__).with_name("wire.json")
GOOGLES = Path(grpc_tools.__file__).with_name("_proto")
PACKAGE = "errorcast.v1"


def files(folder: Path) -> list[FileDescriptorProto]:
    out = folder / "set.bin"
    sources = [str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("errorcast/v1/*.proto"))]
    arguments = [
        "",
        f"-I{ROOT}",
        f"-I{GOOGLES}",
        f"--descriptor_set_out={out}",
        "--include_source_info",
        *sources,
    ]
    assert protoc.main(arguments) == 0
    return list(FileDescriptorSet.FromString(out.read_bytes()).file)


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    return files(tmp_path_factory.mktemp("proto"))


def wire(parsed: list[FileDescriptorProto]) -> dict[str, Any]:
    """What a client's bytes depend on, and the names that its code uses."""
    types = FieldDescriptorProto.Type
    messages, enums, services = {}, {}, {}
    for file in parsed:
        for message in file.message_type:
            messages[message.name] = {
                str(f.number): [
                    f.name,
                    types.Name(f.type).removeprefix("TYPE_").lower(),
                    f.type_name,
                    f.label == f.LABEL_REPEATED,
                    f.HasField("oneof_index") and not f.proto3_optional,
                ]
                for f in message.field
            }
        for enum in file.enum_type:
            enums[enum.name] = {str(v.number): v.name for v in enum.value}
        for service in file.service:
            services[service.name] = {
                m.name: [m.input_type, m.output_type, m.client_streaming, m.server_streaming]
                for m in service.method
            }
    return {"messages": messages, "enums": enums, "services": services}


def lost(before: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict):
        for key, value in before.items():
            if key not in now:
                yield f"{path}/{key} is gone"
            else:
                yield from lost(value, now[key], f"{path}/{key}")
    elif before != now:
        yield f"{path}: was {before}, is {now}"


def test_what_was_released_is_still_understood(parsed: list[FileDescriptorProto]) -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert list(lost(frozen, wire(parsed))) == []
    assert frozen == wire(parsed), "an addition is not in wire.json yet; see this file's docstring"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda w: w["messages"]["JobSpec"].pop("4"), "/messages/JobSpec/4 is gone"),
        (lambda w: w["enums"]["Method"].update({"1": "METHOD_X"}), "/enums/Method/1: was"),
        (
            lambda w: w["services"]["TrainingService"]["GetJob"].__setitem__(3, True),
            "/services/TrainingService/GetJob: was",
        ),
    ],
)
def test_a_break_would_be_found(parsed: list[FileDescriptorProto], change: Any, found: str) -> None:
    now = wire(parsed)
    change(now)
    broken = list(lost(json.loads(FROZEN.read_text(encoding="utf-8")), now))
    assert len(broken) == 1
    assert broken[0].startswith(found)


def comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {
        tuple(place.path): place.leading_comments.strip()
        for place in file.source_code_info.location
        if place.leading_comments.strip()
    }


def complaints(file: FileDescriptorProto) -> Iterator[str]:
    said = comments(file)
    if file.package != PACKAGE or not file.name.startswith(PACKAGE.replace(".", "/")):
        yield f"{file.name}: is not of package {PACKAGE}"
    for m, message in enumerate(file.message_type):
        yield from of_message(message, (4, m), said)
    for e, enum in enumerate(file.enum_type):
        yield from of_enum(enum, (5, e), said)
    for s, service in enumerate(file.service):
        if not service.name.endswith("Service"):
            yield f"{service.name}: ends with Service"
        for m, method in enumerate(service.method):
            for kind, type_name in {
                "Request": method.input_type,
                "Response": method.output_type,
            }.items():
                if type_name != f".{PACKAGE}.{method.name}{kind}":
                    yield f"{method.name}: its {kind.lower()} is {method.name}{kind}"
            if (6, s, 2, m) not in said:
                yield f"{service.name}.{method.name}: has no comment"


def of_message(
    message: DescriptorProto, path: tuple[int, ...], said: dict[tuple[int, ...], str]
) -> Iterator[str]:
    if not re.fullmatch(r"([A-Z][a-z0-9]*)+", message.name):
        yield f"{message.name}: is not PascalCase"
    for f, field in enumerate(message.field):
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", field.name):
            yield f"{message.name}.{field.name}: is not lower_snake_case"
        if (*path, 2, f) not in said:
            yield f"{message.name}.{field.name}: has no comment"


def of_enum(
    enum: EnumDescriptorProto, path: tuple[int, ...], said: dict[tuple[int, ...], str]
) -> Iterator[str]:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
    if path not in said:
        yield f"{enum.name}: has no comment"
    for value in enum.value:
        if not value.name.startswith(f"{prefix}_"):
            yield f"{value.name}: begins with {prefix}_"
    if enum.value[0].name != f"{prefix}_UNSPECIFIED" or enum.value[0].number != 0:
        yield f"{enum.name}: its zero is {prefix}_UNSPECIFIED"


def test_style_and_comments(parsed: list[FileDescriptorProto]) -> None:
    assert [complaint for file in parsed for complaint in complaints(file)] == []


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(wire(files(Path(folder))), indent=1, sort_keys=True)
    FROZEN.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"{FROZEN}\n")
