"""The comments of job.proto, which describe every field of a job."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from docsite.links import ROOT


def comments_of(proto: str) -> Mapping[str, str]:
    """Return the comment before each message, field, enum and value, as one line of text.

    proto: path below proto/.

    Returns texts by full names: "JobSpec", "JobSpec.seed", "Method", "Method.METHOD_DFA".
    """
    file = _described(proto)
    names = dict(_names(file))
    return {
        names[tuple(location.path)]: " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if tuple(location.path) in names
    }


def _described(proto: str) -> FileDescriptorProto:
    """Return the file as protoc reads it, with its comments."""
    from grpc_tools import protoc  # noqa: PLC0415  # its import takes long

    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        arguments = (f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--descriptor_set_out={out}")
        words = ["protoc", *arguments, "--include_source_info", proto]
        if protoc.main(words):  # type: ignore[no-untyped-call]
            raise ValueError(f"{proto}: protoc cannot read it")
        read = FileDescriptorSet.FromString(out.read_bytes())
    return read.file[0]


def _names(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield the path of each message, field, enum and value in the file, and its name."""
    messages, enums = (
        FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
        FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER,
    )
    for i, message in enumerate(file.message_type):
        yield (messages, i), message.name
        for j, field in enumerate(message.field):
            yield (
                (messages, i, DescriptorProto.FIELD_FIELD_NUMBER, j),
                f"{message.name}.{field.name}",
            )
    for i, enum in enumerate(file.enum_type):
        yield (enums, i), enum.name
        for j, value in enumerate(enum.value):
            yield (enums, i, EnumDescriptorProto.VALUE_FIELD_NUMBER, j), f"{enum.name}.{value.name}"
