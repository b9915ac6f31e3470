//! The instruction set of this crate's kernels.

use std::sync::LazyLock;

use inception_engine::Isa;

/// The instruction set in use: the engine's, as far as there are kernels for it here.
pub(crate) fn isa() -> Isa {
    static CHOSEN: LazyLock<Isa> = LazyLock::new(|| match Isa::chosen().unwrap_or_else(|_| Isa::best()) {
        // The engine's needs AVX-512F alone.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512
            if !(is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma")) =>
        {
            if Isa::Avx2.available() {
                Isa::Avx2
            } else {
                Isa::Portable
            }
        }
        isa => isa,
    });
    *CHOSEN
}
