//! Compiles convolutional Burn modules for the CPU.
//!
//! A module's `forward` is captured as a graph, rewritten by a short list of passes, planned, and run by
//! kernels for the CPU at hand. There is no C and no BLAS underneath: one micro-kernel in Rust intrinsics
//! does nearly all the work.
//!
#![cfg_attr(feature = "flex", doc = "```")]
#![cfg_attr(not(feature = "flex"), doc = "```ignore")]
//! use burn::nn::conv::{Conv2d, Conv2dConfig};
//! use burn::tensor::{Device, Tensor, activation::relu};
//! use inception_engine::{Compiled, Options};
//!
//! let device = Device::flex();
//! let module = Conv2dConfig::new([3, 8], [3, 3]).init(&device);
//! let forward = |module: &Conv2d, images: Tensor<4>| relu(module.forward(images));
//!
//! // Images of 3 channels, 32 rows, 32 columns. The module may be dropped afterwards.
//! let model = Compiled::new(&module, forward, [3, 32, 32], &Options::default())?;
//!
//! // Plain slices in and out, any batch up to `Options::max_batch`.
//! let output = model.run(&vec![0.5; 2 * 3 * 32 * 32], 2)?;
//! assert_eq!(output.len(), 2 * model.output_shape().len());
//!
//! // Or tensors of any device.
//! let images = Tensor::<4>::ones([1, 3, 32, 32], &device);
//! let output: Tensor<4> = model.run_tensor(images)?;
//! assert_eq!(output.dims(), [1, 8, 30, 30]);
//! # Ok::<(), inception_engine::Error>(())
//! ```
//!
//! # How it works
//!
//! | stage | module | what happens |
//! |---|---|---|
//! | capture | [`graph`] | records `forward` with `burn-capture`, as a graph; an unknown operation is an error that names it |
//! | passes | [`graph::passes`] | rewrite the graph: fold batch norms, fuse ReLUs and sums, swap average pools with 1x1 convolutions |
//! | plan | `plan` | chooses algorithms, fuses steps, and places tensors in one arena (`memory`) |
//! | run | `executor`, `threads` | runs the plan level by level, or each image of a batch on a thread of its own |
//! | steps | `steps` | split a layer into tasks and call kernels |
//! | kernels | `kernels` | written once over a vector type, compiled for AVX-512, AVX2 with FMA, NEON, and any CPU |
//!
//! The steps of a level run at the same time: threads take its tasks until none is left, then wait at a
//! barrier. A batch of at least as many images as threads needs no barriers, since each thread computes
//! images of its own.
//!
//! # Results
//!
//! An output element is summed in the same order whatever thread computes it, so results are equal from run
//! to run for a given instruction set, thread count and batch. With [`Options::batch_invariant`] they do not
//! depend on the batch, and with [`Options::exact`] neither on thread count nor on batch. Without it,
//! Winograd's algorithm reassociates sums, and Strassen's pairs rows that depend on how the work is cut.
//! Results with and without it stay within a few units of 1e-6 of the largest logit on the networks of this
//! workspace.
//!
//! # bf16
//!
//! [`Precision::Bf16`] keeps activations and weights as `bf16`, the upper half of an `f32`. The micro-kernel
//! then takes two channels of a pixel at a time, with AVX-512's dot product of pairs: twice the multiply-adds
//! a second, half the memory. Sums, biases, residuals and ReLU are `f32` until a result is stored, rounded to
//! the nearest; so are depthwise convolutions, pools and Winograd's transforms and products. From the last
//! pool on the classifier is `f32` throughout. There is no Strassen, which would round sums of activations
//! before it multiplies them.
//!
//! The CPU must have `avx512bf16`; elsewhere compiling fails with [`Error::Precision`], which says what is
//! missing. Against PaddleClas's logits on three images made by formula and a photograph (`tests/parity.rs`),
//! the worst error as a share of the largest logit is 5.7e-3 on GoogLeNet, 3.9e-3 on Xception41 and 3.5e-3 on
//! its deeplab form, 3.8e-3 and 4.8e-3 on Xception65 and its, 5.0e-3 on Xception71, 5.3e-3 on Inception V3,
//! 4.4e-3 on V4; the first class is the same on each.
//!
//! Winograd's products stay `f32` for accuracy: on 192 channels of rectified noise the error of one layer by
//! products in `bf16`, relative to the result's root mean square, would be 1.6e-2 for F(4x4, 3x3) and 3.4e-2
//! for F(4, 7), where the direct algorithm has 1.2e-3 from rounded weights and storing the result adds
//! 1.7e-3. (F(2x2, 3x3) has 2.6e-3, but no fewer multiplications than F(4x4, 3x3) at half the speed.) So the
//! direct algorithm in `bf16` competes with Winograd's in `f32`, and [`choices`] shows that the cost model
//! takes the faster one.
//!
//! `docs/latency.md` of the workspace has timings beside OpenVINO in bf16 (`cargo xtask rivals --precision
//! bf16`).
//!
//! # int8
//!
//! [`Precision::Int8`] keeps an activation as a byte, which stands for a number by the scale and the zero
//! point of its tensor, and a weight as a signed byte, with a scale for each output channel. [`Calibrator`]
//! finds scales from what the network makes of pictures; [`Options::quantization`] takes them. Tensors in the
//! buffer of a concatenation share the scale of the whole.
//!
//! Sums of products are `i32`, and exact. A layer then stores `sum * scale + bias + residual * scale`,
//! clamped and rounded to the nearest byte, to even where two are as near: each of these operations rounds on
//! its own, on every instruction set in the same way. Activations are therefore equal to the bit on every
//! instruction set, thread count and batch (`tests/int8.rs` holds them against scalar code), and so is the
//! result, which is `f32`.
//!
//! | instruction set | products of bytes |
//! |---|---|
//! | AVX-512 with VNNI | four a lane (`vpdpbusd`), depthwise convolutions of 3x3 too |
//! | AVX2 with AVX-VNNI | four a lane (`vpdpbusd`) |
//! | AVX2 | two, then four a lane (`vpmaddubsw`, `vpmaddwd`) in panels of which no two products exceed its 32767 ([`pairs_fit`](graph::integers::pairs_fit)); in others as words, two a lane (`vpmaddwd`), as in depthwise convolutions of 3x3 and Winograd's algorithm |
//! | NEON with i8mm | four a lane (`sudot`) |
//! | NEON with dotprod | four a lane (`sdot`), bytes less 128 |
//! | other NEON, any CPU | arrays that the compiler vectorises |
//!
//! Elsewhere depthwise convolutions are sums in `f32` registers, of integers that are exact there. On AVX2
//! without VNNI convolutions of 3x3 have Winograd's F(3x3,3x3) and F(2x2,3x3), in integers and therefore exact.
//! No other algorithms are there for integers.
//!
//! # The plan against the clock
//!
//! | function | `cargo xtask explain` | what it says |
//! |---|---|---|
//! | [`choices`] | `--measure` | the time of every layer by each algorithm, beside the cost model's prediction |
//! | [`picks`] | `--tune` | the faster algorithms of that, for [`Options::picks`] |
//! | [`layer_errors()`] | `--errors` | the error of every layer against [`graph::reference`](mod@graph::reference), the same graph in `f64` |
//! | [`Compiled::profile`] | `--profile` | where the time goes |
//! | [`Compiled::scaling`] | `--scaling` | an estimate of a run on more threads |

mod calibration;
mod compiled;
mod dtype;
mod error;
mod exchange;
mod executor;
mod kernel_name;
mod kernels;
mod layer_errors;
mod memory;
mod mixed;
mod plan;
mod precision;
mod quantization;
mod scaling;
mod steps;
mod threads;
mod timing;
mod tuning;

pub use calibration::{Calibrator, LayerSqnr, RangeMethod, layer_sqnr};
pub use compiled::{Compiled, LayerTime, Options};
pub use error::Error;
pub use exchange::{QuantizedGraph, quantization_of_nodes, quantized_graph};
pub use inception_graph as graph;
pub use inception_graph::Shape;
#[cfg(feature = "capture")]
pub use inception_graph::{capture, capture_init};
pub use kernel_name::{Algorithm, Fused, KernelName, PrologueName, UnknownKernel};
pub use kernels::isa::Isa;
pub use kernels::{Tier, Transform};
pub use layer_errors::{LayerError, NumericalErrors, layer_errors};
pub use plan::{Picks, PlannedNode};
pub use precision::Precision;
pub use quantization::{QuantParams, Quantization};
pub use scaling::{Scaling, Wait};
pub use threads::Threads;
pub use timing::{noise, quantile};
pub use tuning::{Alternative, Choice, choices, picks, picks_pay};
