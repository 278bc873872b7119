"""The part of Triton's ModelConfig message that is written here, by the fields of its model_config.proto.

The real message, from the package tritonclient, is used where that is installed; it is no dependency because
it holds protobuf back.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

Field = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
_TEXT, _INT32, _INT64, _UINT64 = Field.TYPE_STRING, Field.TYPE_INT32, Field.TYPE_INT64, Field.TYPE_UINT64

MESSAGES: dict[str, list[tuple[str, int, Any, Any]]] = {
    "ModelInput": [
        ("name", 1, _TEXT, _ONE),
        ("data_type", 2, ".inference.DataType", _ONE),
        ("dims", 4, _INT64, _MANY),
    ],
    "ModelOutput": [
        ("name", 1, _TEXT, _ONE),
        ("data_type", 2, ".inference.DataType", _ONE),
        ("dims", 3, _INT64, _MANY),
        ("label_filename", 4, _TEXT, _ONE),
    ],
    "ModelInstanceGroup": [
        ("name", 1, _TEXT, _ONE),
        ("count", 2, _INT32, _ONE),
        ("kind", 4, ".inference.ModelInstanceGroup.Kind", _ONE),
    ],
    "ModelDynamicBatching": [
        ("preferred_batch_size", 1, _INT32, _MANY),
        ("max_queue_delay_microseconds", 2, _UINT64, _ONE),
    ],
    "ModelParameter": [("string_value", 1, _TEXT, _ONE)],
    "ModelConfig": [
        ("name", 1, _TEXT, _ONE),
        ("max_batch_size", 4, _INT32, _ONE),
        ("input", 5, ".inference.ModelInput", _MANY),
        ("output", 6, ".inference.ModelOutput", _MANY),
        ("instance_group", 7, ".inference.ModelInstanceGroup", _MANY),
        ("dynamic_batching", 11, ".inference.ModelDynamicBatching", _ONE),
        ("parameters", 14, ".inference.ModelConfig.ParametersEntry", _MANY),
        ("backend", 17, _TEXT, _ONE),
    ],
}
TYPES = {"TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11}
KINDS = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2}


def parse(text: str) -> Any:
    """Return the message that a `config.pbtxt` is."""
    return text_format.Parse(text, message()())


def message() -> Any:
    """The class of the message: the real one, or the part above."""
    try:
        from tritonclient.grpc.model_config_pb2 import ModelConfig
    except ImportError:
        return part()
    return ModelConfig


def part() -> Any:
    """The class made of the fields above."""
    file = descriptor_pb2.FileDescriptorProto(name="part.proto", package="inference", syntax="proto3")
    _enum(file.enum_type.add(name="DataType"), {"TYPE_INVALID": 0, **TYPES})
    for name, fields in MESSAGES.items():
        kind = file.message_type.add(name=name)
        for field in fields:
            _field(kind, *field)
        if name == "ModelInstanceGroup":
            _enum(kind.enum_type.add(name="Kind"), KINDS)
        if name == "ModelConfig":
            entry = kind.nested_type.add(name="ParametersEntry")
            entry.options.map_entry = True
            _field(entry, "key", 1, _TEXT, _ONE)
            _field(entry, "value", 2, ".inference.ModelParameter", _ONE)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def _enum(enum: Any, values: dict[str, int]) -> None:
    for name, number in values.items():
        enum.value.add(name=name, number=number)


def _field(message: Any, name: str, number: int, kind: Any, label: Any) -> None:
    field = message.field.add(name=name, number=number, label=label)
    if isinstance(kind, str):
        is_enum = kind.endswith(("DataType", "Kind"))
        field.type, field.type_name = Field.TYPE_ENUM if is_enum else Field.TYPE_MESSAGE, kind
    else:
        field.type = kind
