//! Burn's own `.bpk`, through `burn-pack`.

use std::io;
use std::path::Path;

use burn_pack::{Bytes, DType};
use inception_nn::{Network, read_tensors};

use crate::error::Error;
use crate::metadata::Metadata;

/// Writes all tensors of `network`, in 32-bit floating point, to one of Burn's own `.bpk` files, under the
/// names that Burn's `Module::load_file` looks for: first beside `path`, then renamed to it.
///
/// # Errors
///
/// [`Error::Io`].
pub fn save(network: &Network, metadata: &Metadata, path: &Path) -> Result<(), Error> {
    let variant = match network {
        Network::GoogLeNet(_) => "GoogLeNet",
        Network::Inception(_) => "Inception",
        Network::Xception(_) => "Xception",
    };
    let mut tensors = Vec::new();
    let read = read_tensors(network, |info, data| {
        let data = data.convert::<f32>();
        let bytes = Bytes::from_bytes_vec(data.as_bytes().to_vec());
        let name = format!("{variant}.{}", info.name);
        tensors.push(burn_pack::Tensor::new(name, DType::F32, info.shape.clone(), None, bytes));
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(()) = read;
    let writer = burn_pack::Writer::new(tensors).auto_extension(false).overwrite(true);
    let writer = metadata.iter().fold(writer, |writer, (key, value)| writer.with_metadata(key, value));
    let written = super::folder_for(path)
        .and_then(|_| writer.write_to_file(path).map_err(|error| io::Error::other(error.to_string())));
    written.map_err(|source| Error::Io { path: path.to_owned(), source })
}
