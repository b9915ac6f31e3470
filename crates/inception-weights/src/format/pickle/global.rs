//! The names of Python that stand for something here.

/// A name that a pickle gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    Reconstruct,
    Ndarray,
    Dtype,
    Scalar,
    FromBuffer,
    Encode,
    OrderedDict,
    Tuple,
    ByteString,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    RebuildFromType,
    Size,
    Device,
    /// A storage class of PyTorch, by its dtype.
    Storage(&'static str),
    /// Any other: the class of inert objects, by its place in the pickle's list of names.
    Other(u32),
}

impl Global {
    /// The one that `module.name` stands for, if it is known.
    pub fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::FromBuffer,
            ("numpy", "ndarray") => Self::Ndarray,
            ("numpy", "dtype") => Self::Dtype,
            ("_codecs", "encode") => Self::Encode,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("builtins" | "__builtin__", "tuple") => Self::Tuple,
            ("builtins" | "__builtin__", "bytes" | "bytearray") => Self::ByteString,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::RebuildParameter
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch", "Size") => Self::Size,
            ("torch", "device") => Self::Device,
            ("torch", storage) => Self::Storage(match storage {
                "FloatStorage" => "f32",
                "HalfStorage" => "f16",
                "BFloat16Storage" => "bf16",
                "DoubleStorage" => "f64",
                "LongStorage" => "i64",
                "IntStorage" => "i32",
                "ShortStorage" => "i16",
                "CharStorage" => "i8",
                "ByteStorage" => "u8",
                "BoolStorage" => "bool",
                _ => return None,
            }),
            _ => return None,
        })
    }
}
