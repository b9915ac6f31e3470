//! The part of HDF5 that Keras writes through h5py: groups, attributes of text, and datasets whose values lie
//! in one piece. Nothing of the values is read here.
//!
//! Two crates read HDF5 in pure Rust. `hdf5-reader` 0.12.1 survived every cut and every changed byte of
//! Keras's files, and takes 37 seconds to compile, ndarray not counted. `hdf5-pure` 0.47.0 takes 89, and one
//! changed byte of a compressed dataset makes it ask for 205 GB, which ends the process. (Cargo's timings on
//! a busy Intel Xeon, family 6 model 207; without default features.) A checkpoint needs names, shapes and
//! places only, which is a small part of either.
//!
//! Read are superblocks 0 to 3, object headers 1 and 2, groups as symbol tables and as links in their header,
//! and contiguous and compact datasets. What only `libver="latest"` writes (groups in fractal heaps),
//! compressed and chunked datasets are refused by name.

mod attribute;
mod bytes;
mod collection;
mod file;
mod group;
mod header;
mod message;

pub(super) use file::File;
pub(super) use group::Links;
pub(super) use header::Object;
pub(super) use message::Dataset;
