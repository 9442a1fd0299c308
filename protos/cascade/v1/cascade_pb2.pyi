from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_UINT8: _ClassVar[Dtype]
    DTYPE_FLOAT16: _ClassVar[Dtype]
    DTYPE_FLOAT32: _ClassVar[Dtype]

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_RAW: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP90: _ClassVar[ImageFormat]
    IMAGE_FORMAT_AVIF: _ClassVar[ImageFormat]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FP32: _ClassVar[Precision]
    PRECISION_FP16: _ClassVar[Precision]
    PRECISION_BF16: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]
    PRECISION_FP8: _ClassVar[Precision]
    PRECISION_INT8_BLOCK: _ClassVar[Precision]
    PRECISION_INT4_BLOCK: _ClassVar[Precision]
DTYPE_UNSPECIFIED: Dtype
DTYPE_UINT8: Dtype
DTYPE_FLOAT16: Dtype
DTYPE_FLOAT32: Dtype
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_RAW: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_WEBP: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_WEBP90: ImageFormat
IMAGE_FORMAT_AVIF: ImageFormat
PRECISION_UNSPECIFIED: Precision
PRECISION_FP32: Precision
PRECISION_FP16: Precision
PRECISION_BF16: Precision
PRECISION_INT8: Precision
PRECISION_FP8: Precision
PRECISION_INT8_BLOCK: Precision
PRECISION_INT4_BLOCK: Precision

class Tensor(_message.Message):
    __slots__ = ("shape", "dtype", "data")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: Dtype
    data: bytes
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("width", "height", "format", "data")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    format: ImageFormat
    data: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., format: _Optional[_Union[ImageFormat, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ("padding", "reply_padding_bytes")
    PADDING_FIELD_NUMBER: _ClassVar[int]
    REPLY_PADDING_BYTES_FIELD_NUMBER: _ClassVar[int]
    padding: bytes
    reply_padding_bytes: int
    def __init__(self, padding: _Optional[bytes] = ..., reply_padding_bytes: _Optional[int] = ...) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("wire_version", "software_version", "bundle_id", "bundle_name", "components", "limits", "image_formats", "bundle_ids", "padding", "cores", "resident_bytes")
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMATS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_IDS_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    wire_version: int
    software_version: str
    bundle_id: str
    bundle_name: str
    components: _containers.RepeatedCompositeFieldContainer[ComponentInfo]
    limits: Limits
    image_formats: _containers.RepeatedScalarFieldContainer[ImageFormat]
    bundle_ids: _containers.RepeatedScalarFieldContainer[str]
    padding: bytes
    cores: int
    resident_bytes: int
    def __init__(self, wire_version: _Optional[int] = ..., software_version: _Optional[str] = ..., bundle_id: _Optional[str] = ..., bundle_name: _Optional[str] = ..., components: _Optional[_Iterable[_Union[ComponentInfo, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., image_formats: _Optional[_Iterable[_Union[ImageFormat, str]]] = ..., bundle_ids: _Optional[_Iterable[str]] = ..., padding: _Optional[bytes] = ..., cores: _Optional[int] = ..., resident_bytes: _Optional[int] = ...) -> None: ...

class ComponentInfo(_message.Message):
    __slots__ = ("name", "position", "family", "output_resolution", "milliseconds_per_step", "queued", "default_steps", "precision", "engine", "max_batch_rows", "device", "tuned", "output_height", "run_times", "host_milliseconds_per_step")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_STEPS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TUNED_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RUN_TIMES_FIELD_NUMBER: _ClassVar[int]
    HOST_MILLISECONDS_PER_STEP_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: int
    family: str
    output_resolution: int
    milliseconds_per_step: float
    queued: int
    default_steps: int
    precision: Precision
    engine: str
    max_batch_rows: int
    device: str
    tuned: bool
    output_height: int
    run_times: _containers.RepeatedCompositeFieldContainer[RunTime]
    host_milliseconds_per_step: float
    def __init__(self, name: _Optional[str] = ..., position: _Optional[int] = ..., family: _Optional[str] = ..., output_resolution: _Optional[int] = ..., milliseconds_per_step: _Optional[float] = ..., queued: _Optional[int] = ..., default_steps: _Optional[int] = ..., precision: _Optional[_Union[Precision, str]] = ..., engine: _Optional[str] = ..., max_batch_rows: _Optional[int] = ..., device: _Optional[str] = ..., tuned: bool = ..., output_height: _Optional[int] = ..., run_times: _Optional[_Iterable[_Union[RunTime, _Mapping]]] = ..., host_milliseconds_per_step: _Optional[float] = ...) -> None: ...

class RunTime(_message.Message):
    __slots__ = ("role", "rows", "milliseconds")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    role: str
    rows: int
    milliseconds: float
    def __init__(self, role: _Optional[str] = ..., rows: _Optional[int] = ..., milliseconds: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_prompt_characters", "max_steps", "max_queued_per_stage", "context_store_bytes", "context_lifetime_seconds", "result_store_bytes", "result_lifetime_seconds", "max_in_flight_bytes", "max_in_flight_per_identity", "max_linger_seconds", "max_in_flight", "max_joined_bytes", "max_resample", "max_vectors")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_PER_STAGE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIFETIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESULT_STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESULT_LIFETIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_PER_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    MAX_LINGER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_JOINED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESAMPLE_FIELD_NUMBER: _ClassVar[int]
    MAX_VECTORS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_prompt_characters: int
    max_steps: int
    max_queued_per_stage: int
    context_store_bytes: int
    context_lifetime_seconds: float
    result_store_bytes: int
    result_lifetime_seconds: float
    max_in_flight_bytes: int
    max_in_flight_per_identity: int
    max_linger_seconds: float
    max_in_flight: int
    max_joined_bytes: int
    max_resample: int
    max_vectors: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_prompt_characters: _Optional[int] = ..., max_steps: _Optional[int] = ..., max_queued_per_stage: _Optional[int] = ..., context_store_bytes: _Optional[int] = ..., context_lifetime_seconds: _Optional[float] = ..., result_store_bytes: _Optional[int] = ..., result_lifetime_seconds: _Optional[float] = ..., max_in_flight_bytes: _Optional[int] = ..., max_in_flight_per_identity: _Optional[int] = ..., max_linger_seconds: _Optional[float] = ..., max_in_flight: _Optional[int] = ..., max_joined_bytes: _Optional[int] = ..., max_resample: _Optional[int] = ..., max_vectors: _Optional[int] = ...) -> None: ...

class PutContextRequest(_message.Message):
    __slots__ = ("bundle_id", "context")
    BUNDLE_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    bundle_id: str
    context: Tensor
    def __init__(self, bundle_id: _Optional[str] = ..., context: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class PutContextResponse(_message.Message):
    __slots__ = ("handle", "lifetime_seconds")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    handle: bytes
    lifetime_seconds: float
    def __init__(self, handle: _Optional[bytes] = ..., lifetime_seconds: _Optional[float] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "bundle_id", "prompt", "context", "image", "resume", "label", "noise", "kept", "tensor", "seed", "image_index", "last_stage", "options", "output", "precisions", "detach", "linger_seconds", "results_held", "first_stage", "negative", "edit", "size", "vectors")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: StageOptions
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[StageOptions, _Mapping]] = ...) -> None: ...
    class PrecisionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Precision
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Precision, str]] = ...) -> None: ...
    class VectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_STAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PRECISIONS_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    LINGER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_HELD_FIELD_NUMBER: _ClassVar[int]
    FIRST_STAGE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    bundle_id: str
    prompt: PromptStart
    context: ContextStart
    image: ImageStart
    resume: ResumeStart
    label: LabelStart
    noise: NoiseStart
    kept: KeptStart
    tensor: TensorStart
    seed: int
    image_index: int
    last_stage: str
    options: _containers.MessageMap[str, StageOptions]
    output: OutputOptions
    precisions: _containers.ScalarMap[str, Precision]
    detach: bool
    linger_seconds: float
    results_held: int
    first_stage: str
    negative: ContextReference
    edit: Edit
    size: PictureSize
    vectors: _containers.MessageMap[str, Tensor]
    def __init__(self, request_id: _Optional[str] = ..., bundle_id: _Optional[str] = ..., prompt: _Optional[_Union[PromptStart, _Mapping]] = ..., context: _Optional[_Union[ContextStart, _Mapping]] = ..., image: _Optional[_Union[ImageStart, _Mapping]] = ..., resume: _Optional[_Union[ResumeStart, _Mapping]] = ..., label: _Optional[_Union[LabelStart, _Mapping]] = ..., noise: _Optional[_Union[NoiseStart, _Mapping]] = ..., kept: _Optional[_Union[KeptStart, _Mapping]] = ..., tensor: _Optional[_Union[TensorStart, _Mapping]] = ..., seed: _Optional[int] = ..., image_index: _Optional[int] = ..., last_stage: _Optional[str] = ..., options: _Optional[_Mapping[str, StageOptions]] = ..., output: _Optional[_Union[OutputOptions, _Mapping]] = ..., precisions: _Optional[_Mapping[str, Precision]] = ..., detach: bool = ..., linger_seconds: _Optional[float] = ..., results_held: _Optional[int] = ..., first_stage: _Optional[str] = ..., negative: _Optional[_Union[ContextReference, _Mapping]] = ..., edit: _Optional[_Union[Edit, _Mapping]] = ..., size: _Optional[_Union[PictureSize, _Mapping]] = ..., vectors: _Optional[_Mapping[str, Tensor]] = ...) -> None: ...

class ResumeStart(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PromptStart(_message.Message):
    __slots__ = ("prompt",)
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    def __init__(self, prompt: _Optional[str] = ...) -> None: ...

class ContextStart(_message.Message):
    __slots__ = ("context",)
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    context: ContextReference
    def __init__(self, context: _Optional[_Union[ContextReference, _Mapping]] = ...) -> None: ...

class ImageStart(_message.Message):
    __slots__ = ("context", "image", "label", "own_picture")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    OWN_PICTURE_FIELD_NUMBER: _ClassVar[int]
    context: ContextReference
    image: Image
    label: int
    own_picture: bool
    def __init__(self, context: _Optional[_Union[ContextReference, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., label: _Optional[int] = ..., own_picture: bool = ...) -> None: ...

class TensorStart(_message.Message):
    __slots__ = ("context", "tensor")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    context: ContextReference
    tensor: Tensor
    def __init__(self, context: _Optional[_Union[ContextReference, _Mapping]] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class KeptStart(_message.Message):
    __slots__ = ("request_id", "stage", "width", "height", "context")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    stage: str
    width: int
    height: int
    context: ContextReference
    def __init__(self, request_id: _Optional[str] = ..., stage: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., context: _Optional[_Union[ContextReference, _Mapping]] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("picture", "mask", "strength", "resample")
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    RESAMPLE_FIELD_NUMBER: _ClassVar[int]
    picture: Image
    mask: bytes
    strength: float
    resample: int
    def __init__(self, picture: _Optional[_Union[Image, _Mapping]] = ..., mask: _Optional[bytes] = ..., strength: _Optional[float] = ..., resample: _Optional[int] = ...) -> None: ...

class PictureSize(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class LabelStart(_message.Message):
    __slots__ = ("label",)
    LABEL_FIELD_NUMBER: _ClassVar[int]
    label: int
    def __init__(self, label: _Optional[int] = ...) -> None: ...

class NoiseStart(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ContextReference(_message.Message):
    __slots__ = ("handle", "tensor")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    handle: bytes
    tensor: Tensor
    def __init__(self, handle: _Optional[bytes] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class StageOptions(_message.Message):
    __slots__ = ("steps", "guidance", "augmentation", "diffusion", "pixels")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_FIELD_NUMBER: _ClassVar[int]
    DIFFUSION_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    steps: int
    guidance: float
    augmentation: float
    diffusion: DiffusionOptions
    pixels: PixelOptions
    def __init__(self, steps: _Optional[int] = ..., guidance: _Optional[float] = ..., augmentation: _Optional[float] = ..., diffusion: _Optional[_Union[DiffusionOptions, _Mapping]] = ..., pixels: _Optional[_Union[PixelOptions, _Mapping]] = ...) -> None: ...

class DiffusionOptions(_message.Message):
    __slots__ = ("steps", "guidance", "augmentation")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_FIELD_NUMBER: _ClassVar[int]
    steps: int
    guidance: float
    augmentation: float
    def __init__(self, steps: _Optional[int] = ..., guidance: _Optional[float] = ..., augmentation: _Optional[float] = ...) -> None: ...

class PixelOptions(_message.Message):
    __slots__ = ("temperature_16", "floor_16", "guidance_16", "augmentation")
    TEMPERATURE_16_FIELD_NUMBER: _ClassVar[int]
    FLOOR_16_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_16_FIELD_NUMBER: _ClassVar[int]
    AUGMENTATION_FIELD_NUMBER: _ClassVar[int]
    temperature_16: int
    floor_16: int
    guidance_16: int
    augmentation: float
    def __init__(self, temperature_16: _Optional[int] = ..., floor_16: _Optional[int] = ..., guidance_16: _Optional[int] = ..., augmentation: _Optional[float] = ...) -> None: ...

class OutputOptions(_message.Message):
    __slots__ = ("format", "preview_every", "joins_fragments", "previews", "fewest_bytes")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_EVERY_FIELD_NUMBER: _ClassVar[int]
    JOINS_FRAGMENTS_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    FEWEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    format: ImageFormat
    preview_every: int
    joins_fragments: bool
    previews: int
    fewest_bytes: bool
    def __init__(self, format: _Optional[_Union[ImageFormat, str]] = ..., preview_every: _Optional[int] = ..., joins_fragments: bool = ..., previews: _Optional[int] = ..., fewest_bytes: bool = ...) -> None: ...

class Fragment(_message.Message):
    __slots__ = ("data", "last")
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    last: bool
    def __init__(self, data: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("accepted", "progress", "preview", "stage_result", "done", "fragment")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    STAGE_RESULT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    progress: Progress
    preview: Preview
    stage_result: StageResult
    done: Done
    fragment: Fragment
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., stage_result: _Optional[_Union[StageResult, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("queue_position", "estimated_wait_seconds", "joined")
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    queue_position: int
    estimated_wait_seconds: float
    joined: bool
    def __init__(self, queue_position: _Optional[int] = ..., estimated_wait_seconds: _Optional[float] = ..., joined: bool = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "step", "of", "unit")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    stage: str
    step: int
    of: int
    unit: str
    def __init__(self, stage: _Optional[str] = ..., step: _Optional[int] = ..., of: _Optional[int] = ..., unit: _Optional[str] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("stage", "step", "image")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    stage: str
    step: int
    image: Image
    def __init__(self, stage: _Optional[str] = ..., step: _Optional[int] = ..., image: _Optional[_Union[Image, _Mapping]] = ...) -> None: ...

class StageResult(_message.Message):
    __slots__ = ("stage", "image", "context", "seconds", "precision", "engine", "engine_seconds", "tensor", "vectors")
    class SecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class VectorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
    STAGE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    image: Image
    context: Tensor
    seconds: _containers.ScalarMap[str, float]
    precision: Precision
    engine: str
    engine_seconds: float
    tensor: Tensor
    vectors: _containers.MessageMap[str, Tensor]
    def __init__(self, stage: _Optional[str] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., context: _Optional[_Union[Tensor, _Mapping]] = ..., seconds: _Optional[_Mapping[str, float]] = ..., precision: _Optional[_Union[Precision, str]] = ..., engine: _Optional[str] = ..., engine_seconds: _Optional[float] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ..., vectors: _Optional[_Mapping[str, Tensor]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("seconds", "bytes_received", "bytes_sent")
    class SecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    seconds: _containers.ScalarMap[str, float]
    bytes_received: int
    bytes_sent: int
    def __init__(self, seconds: _Optional[_Mapping[str, float]] = ..., bytes_received: _Optional[int] = ..., bytes_sent: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("found",)
    FOUND_FIELD_NUMBER: _ClassVar[int]
    found: bool
    def __init__(self, found: bool = ...) -> None: ...

class GetBundleManifestRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBundleManifestResponse(_message.Message):
    __slots__ = ("manifest", "signature")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    signature: bytes
    def __init__(self, manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ReadBundleFileRequest(_message.Message):
    __slots__ = ("bundle_id", "name", "offset")
    BUNDLE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    bundle_id: str
    name: str
    offset: int
    def __init__(self, bundle_id: _Optional[str] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class ReadBundleFileResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
