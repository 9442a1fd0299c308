"""The fields of Triton's `ModelConfig` that a repository of ours may use, as a protobuf message.

Names and types are those of `model_config.proto`; the text format has no numbers, so the ones here
are counted. Parsing text into it is as strict as Triton is: an unknown field or value is an error.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

Field = descriptor_pb2.FieldDescriptorProto
TEXT, INT32, INT64, UINT64 = (
    Field.TYPE_STRING,
    Field.TYPE_INT32,
    Field.TYPE_INT64,
    Field.TYPE_UINT64,
)
ENUMS = {
    "DataType": ("TYPE_INVALID", "TYPE_UINT8", "TYPE_INT8", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32"),
    "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
}
MANY = "*"
"""After the type of a repeated field."""
MESSAGES: dict[str, dict[str, Any]] = {
    "Shape": {"shape": (INT64, MANY)},
    "Tensor": {"name": TEXT, "data_type": "DataType", "dims": (INT64, MANY), "reshape": "Shape"},
    "Batching": {"max_queue_delay_microseconds": UINT64},
    "Group": {"count": INT32, "kind": "Kind"},
    "Value": {"string_value": TEXT},
    "Parameter": {"key": TEXT, "value": "Value"},
    "Setting": {"key": TEXT, "value": TEXT},
    "Accelerator": {"name": TEXT, "parameters": ("Setting", MANY)},
    "Accelerators": {"gpu_execution_accelerator": ("Accelerator", MANY)},
    "Optimization": {"execution_accelerators": "Accelerators"},
    "ModelConfig": {
        "name": TEXT,
        "backend": TEXT,
        "default_model_filename": TEXT,
        "max_batch_size": INT32,
        "input": ("Tensor", MANY),
        "output": ("Tensor", MANY),
        "dynamic_batching": "Batching",
        "instance_group": ("Group", MANY),
        "parameters": ("Parameter", MANY),
        "optimization": "Optimization",
    },
}


def config_class() -> Any:
    """The message."""
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, described) in enumerate(fields.items(), 1):
            kind, *many = described if isinstance(described, tuple) else (described,)
            added = message.field.add(name=field, number=number, label=3 if many else 1)
            if isinstance(kind, str):
                added.type_name = kind
                added.type = Field.TYPE_ENUM if kind in ENUMS else Field.TYPE_MESSAGE
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ModelConfig"))


def parsed_config(text: str) -> Any:
    """A `config.pbtxt` as a message; raises `text_format.ParseError` for anything unknown."""
    return text_format.Parse(text, config_class()())
